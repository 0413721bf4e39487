"""``dualreg login``: get an API key of a registry by its issuer, and have docker use it."""

import base64
import json
import os
import platform
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from dualreg.cli.options import json_option
from dualreg.cli.output import echo, echo_json
from dualreg.remote.device_login import DeviceLogin, MadeKey
from dualreg.remote.endpoint import RemoteError
from dualreg.settings import parse_duration


@click.command()
@click.argument("url")
@click.option("--issuer", default="", metavar="NAME", help="Log in by this issuer, if there are several.")
@click.option("--expires", default="", metavar="DURATION", help="Expire the key after DURATION, such as 90d.")
@click.option("--note", default="", help="Attach a note to the key.  [default: the name of this machine]")
@click.option(
    "--docker-config",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="DOCKER_CONFIG",
    metavar="DIRECTORY",
    help="Write the key to config.json in DIRECTORY.  [default: ~/.docker]",
)
@click.option("--print", "prints", is_flag=True, help="Print the key instead of writing it to a file.")
@json_option
def login(
    url: str,
    issuer: str,
    expires: str,
    note: str,
    docker_config: Path | None,
    *,
    prints: bool,
    as_json: bool,
) -> None:
    """Log in to the registry at URL by the issuer of its people.

    A code is printed, which is entered in a browser on any machine. The registry then makes an API key, with
    which docker on this machine is logged in. Without --print, podman, skopeo and buildah find it, too.
    """
    url, expires = _url(url), _duration_or_fail(expires)
    file = (docker_config or Path("~/.docker").expanduser()) / "config.json"
    document = {} if prints else _read(file)
    try:
        made = _log_in(DeviceLogin(url, issuer), note or f"dualreg login on {platform.node()}", expires)
    except RemoteError as error:
        raise click.ClickException(str(error)) from error
    if not prints:
        _write(file, document, urlsplit(url).netloc, made)
    _report(url, made, file, prints=prints, as_json=as_json)


def _duration_or_fail(text: str) -> str:
    """Return a duration that the registry takes; empty: none.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        parse_duration(text or "1d")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires") from error
    return text


def _url(text: str) -> str:
    """Return the URL of a registry, of which the scheme may be left out."""
    return (text if "://" in text else f"https://{text}").rstrip("/")


def _log_in(session: DeviceLogin, note: str, expires: str) -> MadeKey:
    """Return a key, once somebody has entered the code that is printed."""
    code = session.begin()
    echo(f"Open  {code.complete or code.uri}", err=True)
    echo(f"Enter  {code.user}", err=True)
    echo("Waiting until that is done. To end this, press Ctrl-C.", err=True)
    return session.wait(code, note=note, expires=expires)


def _read(file: Path) -> dict[str, Any]:
    """Return docker's configuration.

    Raises:
        click.ClickException: it cannot be read, or says that credentials are kept elsewhere.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{file}: {error}") from error
    if not isinstance(document, dict):
        raise click.ClickException(f"{file}: not a JSON object")
    if document.get("credsStore") or document.get("credHelpers"):
        raise click.ClickException(
            f"{file} keeps credentials by a helper program; use --print, and `docker login --password-stdin`"
        )
    return document


def _write(file: Path, document: dict[str, Any], host: str, made: MadeKey) -> None:
    """Add the credentials for *host* to docker's configuration, which only its owner can read.

    Raises:
        click.ClickException: it cannot be written; the key is printed, as it is not shown again.
    """
    pair = base64.b64encode(f"{made.account}:{made.secret}".encode()).decode()
    auths = document.get("auths")
    document = document | {"auths": {**(auths if isinstance(auths, dict) else {}), host: {"auth": pair}}}
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as output:
            json.dump(document, output, indent="\t")
        new.replace(file)
    except OSError as error:
        raise click.ClickException(f"{file}: {error}; the key is {made.secret}") from error


def _report(url: str, made: MadeKey, file: Path, *, prints: bool, as_json: bool) -> None:
    """Print what was done; with *prints*, the key alone on standard output."""
    if as_json:
        document = {"account": made.account, "key": made.id, "url": url}
        echo_json(document | ({"secret": made.secret} if prints else {"file": file}))
        return
    if prints:
        echo(f"This is key {made.id} of {made.account}. It is not shown again:", err=True)
        echo(made.secret)
        return
    echo(f"Logged in to {urlsplit(url).netloc} as {made.account}, by key {made.id} in {file}.")
