"""Addresses that the server listens on."""

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

import click

from dualreg.cli.options import environment
from dualreg.settings import Settings


def addresses(settings: Settings) -> list[str]:
    """Return what to listen on; that for monitoring is the last one."""
    return [settings.bind, *filter(None, [settings.monitoring_bind])]


def check_addresses(settings: Settings) -> None:
    """Refuse addresses that are in use, which gunicorn retries for seconds or takes from another server.

    Raises:
        click.ClickException: it cannot be served on.
    """
    if {"LISTEN_FDS", "GUNICORN_FD"} & environment().keys():
        return  # the socket is inherited
    for address in addresses(settings):
        try:
            if address.startswith("unix:"):
                _try_socket(Path(address.removeprefix("unix:")))
            else:
                host, _, port = address.rpartition(":")
                _try_port(host.strip("[]"), int(port))
        except OSError as error:
            raise click.ClickException(f"cannot listen on {address}: {error.strerror or error}") from error


def _try_socket(path: Path) -> None:
    """Raise OSError if another server listens on the socket, or if something else is in its place."""
    with suppress(FileNotFoundError, ConnectionRefusedError), socket.socket(socket.AF_UNIX) as client:
        if not path.is_socket() and path.exists():
            raise OSError(errno.EEXIST, "the file exists, and is not a socket")
        client.connect(f"{path}")
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _try_port(host: str, port: int) -> None:
    """Raise OSError if this process cannot listen on the address."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
