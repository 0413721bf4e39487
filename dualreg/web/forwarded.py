"""Forwarded: what trusted proxies say of the client: its address, and whether it uses HTTPS."""

from contextlib import suppress
from functools import cache
from ipaddress import ip_address

from flask import request

from dualreg.web.context import settings

#: Among the trusted proxies: any address.
_ANY = "*"
#: Proxies that a request has passed through at most; what is before them is no address.
_HOPS = 30
#: Headers in which proxies say the scheme; the first that is there counts.
_SCHEME_HEADERS = ("X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Forwarded-Protocol", "X-Forwarded-Ssl")
_SECURE = frozenset({"https", "ssl", "on"})


def client_address() -> str:
    """Return the client's IP address; empty if unknown (a Unix socket without ``X-Forwarded-For``).

    ``X-Forwarded-For`` is read from its end, and only the entries that trusted proxies appended: a client can
    forge those before them.
    """
    peer = _peer()
    hops = ",".join(request.headers.getlist("X-Forwarded-For")).rsplit(",", _HOPS)[-_HOPS:]
    with suppress(ValueError):
        while hops and _is_trusted(peer):
            peer = str(ip_address(hops.pop().strip()))
    return peer


def is_https() -> bool:
    """Return whether the client uses HTTPS, as far as we or trusted proxies know.

    Of several proxies, each may have said its own, in one header or in several; the first one that a client
    meets usually ends TLS.
    """
    if request.scheme == "https":
        return True
    for header in _SCHEME_HEADERS if _is_trusted(_peer()) else ():
        if said := ",".join(request.headers.getlist(header)):
            return not _SECURE.isdisjoint(value.strip().lower() for value in said.split(","))
    return False


def _peer() -> str:
    return (request.remote_addr or "").removeprefix("::ffff:")  # IPv4 on a dual-stack socket


def _is_trusted(peer: str) -> bool:
    """Return whether *peer* is a trusted proxy; so is whoever may open a Unix socket."""
    trusted = _entries(settings().trusted_proxies)
    return not peer or peer in trusted or _ANY in trusted


@cache  # of few settings, for all requests
def _entries(text: str) -> frozenset[str]:
    return frozenset(entry.strip() for entry in text.split(","))
