"""Origins: whom a URL leads to; what is meant for one is no other's business."""

from typing import NamedTuple
from urllib.parse import urlsplit

from dualreg.remote.errors import RemoteError

_PORTS = {"http": 80, "https": 443}


class Endpoint(NamedTuple):
    """Whoever answers.

    Source: RFC 6454.
    """

    scheme: str
    host: str
    port: int


def endpoint_of(url: str) -> Endpoint:
    """Return whom *url* leads to.

    Raises:
        WireError: to nobody, over HTTP.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError as error:
        raise RemoteError("an address that makes no sense") from error  # which may hold secrets
    if not host or not port or parts.scheme not in _PORTS:
        raise RemoteError(f"{redact(url)} leads to nobody over HTTP")
    return Endpoint(parts.scheme, host, port)


def redact(url: str) -> str:
    """Return what may be said of *url* in messages: nothing that is signed, and no password."""
    place = url.partition("?")[0].partition("#")[0]
    scheme, slashes, rest = place.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"[:300]
