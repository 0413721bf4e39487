"""Client files: what the configuration of each client has to say about this server.

Sources: moby, ``registry/config.go``; containerd, ``docs/hosts.md``; BuildKit, ``docs/buildkitd.toml.md``;
containers/image, ``docs/containers-registries.conf.5.md``.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
#: What clients call Docker Hub.
_HUB = "docker.io"


class Mirrored(NamedTuple):
    """A registry whose content this server has.

    Attributes:
        names: The hosts by which clients name it in references.
        prefix: What its repositories are called below, on this server; empty: as there.
        url: Its own URL.
    """

    names: tuple[str, ...]
    prefix: str
    url: str


@dataclass(frozen=True, slots=True)
class Server:
    """What clients have to know of this server.

    Attributes:
        url: As clients use it, without a slash at its end.
        mirrored: The registries that it is a mirror of.
        logins: Whether clients have to log in for some of it.
        v1: Whether it serves V1 clients.
    """

    url: str
    mirrored: Sequence[Mirrored] = ()
    logins: bool = False
    v1: bool = False

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        """Host and port, as references to images begin."""
        return urlsplit(self.url).netloc.removesuffix(_DEFAULT_PORTS[self.scheme])

    @property
    def path(self) -> str:
        """The path before ``/v2``; empty, unless the server shares its host with others."""
        return urlsplit(self.url).path

    @property
    def is_plain(self) -> bool:
        """Whether it is served without TLS."""
        return self.scheme == "http"


class ClientFile(NamedTuple):
    """A file of a client's machine, and what must be in it."""

    path: str
    text: str


class ClientFiles(NamedTuple):
    """The files of a client, and what its operator has to know besides."""

    files: Sequence[ClientFile]
    notes: Sequence[str] = ()


def _docker(server: Server) -> ClientFiles:
    members: dict[str, object] = {}
    hub = [each for each in server.mirrored if not each.prefix and _HUB in each.names]
    if hub and not server.path:
        members["registry-mirrors"] = [server.url]
    if server.is_plain:
        members["insecure-registries"] = [server.host]
    text = f"{json.dumps(members, indent=2)}\n"
    return ClientFiles([ClientFile("/etc/docker/daemon.json", text)], [*_docker_notes(server, members)])


def _docker_notes(server: Server, members: Mapping[str, object]) -> Iterator[str]:
    if (
        _HUB in {name for each in server.mirrored for name in each.names}
        and "registry-mirrors" not in members
    ):
        yield "docker: registry-mirrors needs an upstream for the pattern *, which is Docker Hub, and no path"
    if server.mirrored and server.logins and "registry-mirrors" in members:
        yield "docker: no credentials are sent to mirrors; allow anonymous pulls of these repositories"
    options = [f"--insecure-registry {server.host}"] if server.is_plain else []
    options += [f"--registry-mirror {server.url}"] if "registry-mirrors" in members else []
    if options:
        yield f'docker before 1.10: DOCKER_OPTS="{" ".join(options)}" in /etc/default/docker'
    if not server.is_plain:
        yield f"docker: put a private certificate authority into /etc/docker/certs.d/{server.host}/ca.crt"
    if server.path or not server.v1:
        reason = (
            "a registry with a path in its URL is not supported" if server.v1 else "the setting v1 is off"
        )
        yield f"docker before 1.6: {reason}"


def _containerd(server: Server) -> ClientFiles:
    """Return a file for this server, and one for each that it mirrors: ``?ns=`` says which is meant."""
    url = f"{server.url}/v2" if server.path else server.url
    own = _hosts_toml(url, url, ("pull", "resolve", "push"), is_path=bool(server.path))
    files = [ClientFile(_certs_d(server.host), own)]
    for each in server.mirrored:
        text = _hosts_toml(each.url, url, ("pull", "resolve"), is_path=bool(server.path))
        files += [ClientFile(_certs_d(name), text) for name in each.names]
    notes = [
        'containerd: set config_path = "/etc/containerd/certs.d" in the registry table of its CRI plugin'
    ]
    if not server.is_plain:
        notes.append('containerd: for a private certificate authority, add ca = "PATH" below [host."…"]')
    return ClientFiles(files, notes)


def _certs_d(host: str) -> str:
    return f"/etc/containerd/certs.d/{host}/hosts.toml"


def _hosts_toml(server: str, host: str, capabilities: Iterable[str], *, is_path: bool) -> str:
    lines = [
        f"server = {_quoted(server)}",
        "",
        f"[host.{_quoted(host)}]",
        f"  capabilities = [{', '.join(map(_quoted, capabilities))}]",
    ]
    lines += ["  override_path = true"] if is_path else []
    return _joined(lines)


def _buildkit(server: Server) -> ClientFiles:
    if server.path:
        return ClientFiles([], ["buildkit: a registry with a path in its URL is not supported"])
    lines = [f"[registry.{_quoted(server.host)}]", f"  http = {str(server.is_plain).lower()}"]
    for each in server.mirrored:
        for name in each.names:
            lines += ["", f"[registry.{_quoted(name)}]", f"  mirrors = [{_quoted(server.host)}]"]
    notes = [] if server.is_plain else ['buildkit: for a private certificate authority, add ca = ["PATH"]']
    return ClientFiles([ClientFile("/etc/buildkit/buildkitd.toml", _joined(lines))], notes)


def _podman(server: Server) -> ClientFiles:
    """Return a drop-in; podman, buildah and skopeo send no ``?ns=``, so locations have the prefix."""
    if server.path:
        return ClientFiles([], ["podman: a registry with a path in its URL is not supported"])
    insecure = ["insecure = true"] if server.is_plain else []
    lines = ["[[registry]]", f"location = {_quoted(server.host)}", *insecure]
    for each in server.mirrored:
        location = f"{server.host}/{each.prefix}" if each.prefix else server.host
        for name in each.names:
            lines += ["", "[[registry]]", f"location = {_quoted(name)}"]
            lines += ["", "[[registry.mirror]]", f"location = {_quoted(location)}", *insecure]
    certificates = f"/etc/containers/certs.d/{server.host}/ca.crt"
    notes = [] if server.is_plain else [f"podman: put a private certificate authority into {certificates}"]
    path = "/etc/containers/registries.conf.d/50-dualreg.conf"
    return ClientFiles([ClientFile(path, _joined(lines))], notes)


def _quoted(text: str) -> str:
    """Return a basic string of TOML, which JSON's strings are."""
    return json.dumps(text)


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


#: The clients by name.
CLIENTS: Mapping[str, Callable[[Server], ClientFiles]] = MappingProxyType(
    {"docker": _docker, "containerd": _containerd, "buildkit": _buildkit, "podman": _podman}
)
