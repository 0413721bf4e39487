"""Forwarded: the client's address behind trusted proxies."""

from contextlib import suppress
from ipaddress import ip_address

from flask import request

from dualreg.web.context import settings

#: Among the trusted proxies: any address.
_ANY = "*"


def client_address() -> str:
    """Return the client's IP address; empty if unknown (a Unix socket without ``X-Forwarded-For``).

    ``X-Forwarded-For`` is read from its end, and only the entries that trusted proxies appended: a client can
    forge those before them.
    """
    trusted = {entry.strip() for entry in settings().trusted_proxies.split(",")}
    peer = (request.remote_addr or "").removeprefix("::ffff:")  # IPv4 on a dual-stack socket
    hops = ",".join(request.headers.getlist("X-Forwarded-For")).split(",")
    with suppress(ValueError):
        while hops and (not peer or peer in trusted or _ANY in trusted):
            peer = str(ip_address(hops.pop().strip()))
    return peer
