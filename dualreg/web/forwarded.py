"""Forwarded: what trusted proxies say of the client: its address, and whether it uses HTTPS."""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

from dualreg.web.context import settings
from dualreg.web.current import current_request

#: Where the environment of a request has its client's address, once that has been found.
ADDRESS = "dualreg.address"
#: Among the trusted proxies: any address.
_ANY = "*"
#: Proxies that a request has passed through at most; what is before them is no address.
_HOPS = 30
#: Of how many peers it is remembered whether they are trusted.
_REMEMBERED = 1 << 12
#: Headers in which proxies say the scheme, as WSGI has them: the first that is there counts.
_SCHEME_HEADERS = (
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_SCHEME",
    "HTTP_X_FORWARDED_PROTOCOL",
    "HTTP_X_FORWARDED_SSL",
)
_SECURE = frozenset({"https", "ssl", "on"})


def client_address() -> str:
    """Return the client's IP address; empty if unknown (a Unix socket without ``X-Forwarded-For``).

    ``X-Forwarded-For`` is read from its end, and only the entries that trusted proxies appended: a client can
    forge those before them.
    """
    environ = current_request().environ
    known: str | None = environ.get(ADDRESS)
    return address_of(environ, settings().trusted_proxies) if known is None else known


def address_of(environ: Mapping[str, Any], trusted_proxies: str) -> str:
    """Return the ``client_address`` of a request, given as its WSGI environment and the setting.

    The zone of an IPv6 address is left out: it is the proxy's, and could be any text.
    """
    peer = _peer(environ)
    forwarded = environ.get("HTTP_X_FORWARDED_FOR")
    hops = forwarded.rsplit(",", _HOPS)[-_HOPS:] if forwarded else []
    with suppress(ValueError):
        while hops and _is_trusted(peer, trusted_proxies):
            peer = str(ip_address(hops.pop().strip().partition("%")[0]))
    return peer


def is_among(address: str, networks: str) -> bool:
    """Return whether a client's address is known, and in a list of addresses and networks."""
    return bool(address) and _is_trusted(address, networks)


def is_https() -> bool:
    """Return whether the client uses HTTPS, as far as we or trusted proxies know.

    Of several proxies, each may have said its own, in one header or in several; the first one that a client
    meets usually ends TLS.
    """
    environ = current_request().environ
    if environ["wsgi.url_scheme"] == "https":
        return True
    is_trusted = _is_trusted(_peer(environ), settings().trusted_proxies)
    for header in _SCHEME_HEADERS if is_trusted else ():
        if said := environ.get(header):
            return not _SECURE.isdisjoint(value.strip().lower() for value in said.split(","))
    return False


def _peer(environ: Mapping[str, Any]) -> str:
    address: str = environ.get("REMOTE_ADDR") or ""
    return address.removeprefix("::ffff:")  # IPv4 on a dual-stack socket


@lru_cache(maxsize=_REMEMBERED)
def _is_trusted(peer: str, trusted_proxies: str) -> bool:
    """Return whether *peer* is a trusted proxy; so is whoever may open a Unix socket."""
    entries = [entry.strip() for entry in trusted_proxies.split(",") if entry.strip()]
    if not peer or peer in entries or _ANY in entries:
        return True
    with suppress(ValueError):
        return any(ip_address(peer) in ip_network(entry, strict=False) for entry in entries)
    return False
