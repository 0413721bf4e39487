"""``dualreg health``: whether the server of this machine can serve, for health checks of containers."""

import json
import socket
import ssl
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

import click

from dualreg.cli.options import announce_registry, load_settings, settings_options
from dualreg.cli.output import echo
from dualreg.settings import Settings

#: Seconds for each step of the exchange: more than the server gives its database.
_TIMEOUT = 10
#: The addresses that a server listens on for all, and the one that reaches it from its own machine.
_ALL = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- compared


class _SocketConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


@click.command()
@settings_options
def health(data: Path | None, config: Path | None) -> None:
    """Check whether the server can serve.

    It is asked on the address of the settings. Exits with 1 if it does not answer, or if it cannot read
    and write the catalog and the store.
    """
    settings = load_settings(config, data=data)
    announce_registry(settings)
    try:
        with closing(_connection(settings)) as connection:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            status, document = response.status, json.loads(response.read())
            failures = document.get("failures", {})
    except (OSError, HTTPException, ValueError, AttributeError) as error:
        raise click.ClickException(f"no answer of dualreg on {settings.bind}: {error}") from error
    for name, reason in failures.items():
        echo(f"{name}: {reason}", err=True)
    if status != HTTPStatus.OK:
        what = document.get("status", "unknown")
        reason = f"the server on {settings.bind} cannot serve ({what})"
        raise click.ClickException(f"status {status}: {reason}")
    echo(f"The server on {settings.bind} can serve.")


def _connection(settings: Settings) -> HTTPConnection:
    """Return a connection to the server that has these settings.

    Its certificate is not verified: it is of the name that clients use.
    """
    if settings.bind.startswith("unix:"):
        return _SocketConnection(settings.bind.removeprefix("unix:"))
    host, _, port = settings.bind.rpartition(":")
    host = host.strip("[]")
    host = _ALL.get(host, host)
    if not settings.tls_cert:
        return HTTPConnection(host, int(port), timeout=_TIMEOUT)
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 -- see above
    return HTTPSConnection(host, int(port), timeout=_TIMEOUT, context=context)
