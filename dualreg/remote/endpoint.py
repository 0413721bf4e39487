"""Endpoints: the scheme, host and port that a URL names, and what of a URL may appear in messages."""

from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


class RemoteError(OSError):
    """A remote server cannot be reached, or its answer cannot be used; one line that contains no secret."""


class Refused(RemoteError):
    """A remote server answered a request for bytes with an error.

    Attributes:
        status: Which one.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Endpoint(NamedTuple):
    """The server that a URL names; credentials for one endpoint are never sent to another.

    Source: RFC 6454 (an "origin").
    """

    scheme: str
    host: str
    port: int


def endpoint_of(url: str) -> Endpoint:
    r"""Return the endpoint that *url* names.

    Raises:
        RemoteError: *url* is not a valid http or https URL with a host, or one that parsers disagree about:
            in ``https://evil\@registry/``, this one's host is what urllib3, which connects, takes for a path.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError as error:
        raise RemoteError("invalid URL") from error  # which may contain secrets, and cannot be redacted
    if parts.scheme not in _DEFAULT_PORTS or not port:
        raise RemoteError(f'invalid URL "{redact(url)}": not http or https')
    if "\\" in parts.netloc:
        raise RemoteError("invalid URL: a backslash in the host")
    if not host:
        raise RemoteError(f'invalid URL "{redact(url)}": no host')
    return Endpoint(parts.scheme, host, port)


def joined(base: str, reference: str) -> str:
    """Return the absolute URL that a server at *base* names by *reference*, which may be relative.

    Raises:
        RemoteError: it is not a URL.
    """
    try:
        return urljoin(base, reference)
    except ValueError as error:
        raise RemoteError(f"{redact(base)}: the server named an invalid URL") from error


def is_loopback(host: str) -> bool:
    """Return whether *host*, a name or an address (of IPv6 also in brackets), is this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def redact(url: str) -> str:
    """Return *url* as it may appear in messages: without user, password, query and fragment."""
    place = url.partition("?")[0].partition("#")[0]
    scheme, slashes, rest = place.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"[:300]
