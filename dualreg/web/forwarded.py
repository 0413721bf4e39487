"""Forwarded: who the client is, behind proxies that may be believed."""

from contextlib import suppress
from ipaddress import ip_address

from flask import request

from dualreg.web.context import settings

#: Stands, among the trusted proxies, for every address.
_EVERY = "*"


def client_address() -> str:
    """Return the client's address; empty if it came through a local socket without saying.

    ``X-Forwarded-For`` is read from its end, and only as far as proxies that the operator trusts wrote it:
    what stands before that, a client can write itself.
    """
    trusted = {entry.strip() for entry in settings().trusted_proxies.split(",")}
    peer = (request.remote_addr or "").removeprefix("::ffff:")  # IPv4, of a socket for both
    hops = ",".join(request.headers.getlist("X-Forwarded-For")).split(",")
    with suppress(ValueError):
        while hops and (not peer or peer in trusted or _EVERY in trusted):
            peer = str(ip_address(hops.pop().strip()))
    return peer
