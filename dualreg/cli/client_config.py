"""``dualreg client-config``: the configuration of clients for this server."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import click

from dualreg.cli.client_files import CLIENTS, ClientFile, Mirrored, Server
from dualreg.cli.options import client_names, load_settings, settings_options
from dualreg.cli.output import echo
from dualreg.settings import Settings

#: Addresses that name all those of a machine, and none.
_ALL = ("", "0.0.0.0", "[::]")  # noqa: S104 -- compared


@click.command("client-config")
@click.option(
    "--for",
    "clients",
    metavar="CLIENT,...",
    default=",".join(CLIENTS),
    show_default=True,
    callback=lambda *given: client_names(given[-1], CLIENTS),
    help="Print the configuration of these clients.",
)
@click.option("--url", metavar="URL", help="Use this URL of the server.  [default: public_url, or bind]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help="Write the files below DIRECTORY instead, unless they exist with another content.",
)
@settings_options
def client_config(
    clients: Sequence[str], url: str | None, output: Path | None, data: Path | None, config: Path | None
) -> None:  # fmt: skip
    """Print the configuration of clients for this server.

    These are daemon.json of Docker, hosts.toml of containerd, buildkitd.toml of BuildKit, and registries.conf
    of podman, buildah and skopeo. Registries that the setting upstreams names are mirrored. A single file is
    printed as it is, several below their paths. What else has to be done is printed on standard error.
    """  # fmt: skip
    settings = load_settings(config, data=data)
    server = _server(settings, url)
    made = [CLIENTS[client](server) for client in clients]
    files = [file for each in made for file in each.files]
    if output:
        _write(files, output)
    else:
        _print(files)
    notes = [note for each in made for note in each.notes]
    if server.logins:
        notes.append(f"log in with docker login {server.host}, or podman login {server.host}")
    for note in notes:
        echo(note, err=True)


def _server(settings: Settings, url: str | None) -> Server:
    """Return what clients have to know of the server that has these settings.

    Raises:
        click.ClickException: its URL is not known, or invalid.
    """
    mirrored = [
        Mirrored(_names(each.hosts), pattern.removesuffix("*").rstrip("/"), each.url)
        for pattern, each in settings.upstreams.items()
    ]
    logins, v1 = settings.auth != "none", settings.v1 != "off"
    return Server(_url(settings, url), [each for each in mirrored if each.names], logins, v1)


def _names(hosts: Sequence[str]) -> tuple[str, ...]:
    """Return those of the hosts that may begin a reference to an image; of Docker Hub's, the usual one."""
    if "docker.io" in hosts:
        return ("docker.io",)
    return tuple(host for host in hosts if "." in host or ":" in host or host == "localhost")


def _url(settings: Settings, given: str | None) -> str:
    if url := given or settings.public_url:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise click.ClickException(f'invalid URL "{url}"; expected http://HOST or https://HOST')
        return url.rstrip("/")
    host, _, port = settings.bind.rpartition(":")
    if settings.bind.startswith("unix:") or host in _ALL:
        raise click.ClickException(
            f"bind = {settings.bind} does not say what clients call this server;"
            " set public_url, or give --url"
        )
    return f"{'https' if settings.tls_cert else 'http'}://{host}:{port}"


def _print(files: Sequence[ClientFile]) -> None:
    for file in files:
        if len(files) > 1:
            echo(f"==> {file.path} <==")
        for line in file.text.splitlines():
            echo(line)
        if len(files) > 1:
            echo("")


def _write(files: Sequence[ClientFile], folder: Path) -> None:
    """Write the files below *folder*, as if it were the root; print their paths.

    Raises:
        click.ClickException: one exists with another content; nothing was written.
    """
    places = [(folder / file.path.lstrip("/"), file.text) for file in files]
    for path, text in places:
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise click.ClickException(f"{path} exists, and differs; merge it with --for, or remove it")
    for path, text in places:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        echo(path)
