"""Reach: which addresses a client connects to where the answers of a server lead it.

Redirects, pages, locations of uploads, token servers and URLs of keys are chosen by the server. Without a
limit, one on the internet could have anything fetched that only this machine can reach, and a registry would
publish it.
"""

import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from dualreg.remote.connections import connecting_by
from dualreg.remote.endpoint import Endpoint

Address = IPv4Address | IPv6Address
#: Addresses of IPv6 that stand for one of IPv4 in their last bits.  Source: RFC 6052, section 2.1.
_NAT64 = IPv6Network("64:ff9b::/96")
#: Addresses that no network routes to the internet, and that ``ipaddress`` calls global, in some versions: of
#: IPv4 in other forms, of a translator in this network, and of a site.  Source: IANA, "IPv6 Special-Purpose
#: Address Registry"; RFC 4291, section 2.5.5.1; RFC 2765, section 2.1; RFC 3879.
_LOCAL = (
    IPv6Network("::/96"),
    IPv6Network("::ffff:0:0:0/96"),
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("5f00::/16"),
    IPv6Network("fec0::/10"),
)


class AddressRefused(HTTPError):
    """A server led to an address that it may not lead to; nothing was sent there."""


@dataclass(frozen=True)
class Reach:
    """What may be connected to: the server that the operator named, anywhere; others if they are public.

    Attributes:
        named: That server. Its other ports are within reach, except on this machine, where every port is
            another service; and all are out of reach at a private address once it had a public one, as a
            name can be made to resolve to anything at any time.
        allowed: Further hosts that the operator named, which may be anywhere.
        own_ports: Whether the other ports of the server are within reach on this machine as well.
        neighbours: Whether it may lead to addresses of the same kind as its own, such as private ones.
        first: The first address that the host had.
    """

    named: Endpoint
    allowed: Collection[str] = ()
    own_ports: bool = False
    neighbours: bool = False
    first: dict[str, Address] = field(default_factory=dict, repr=False)

    def check(self, host: str, port: int, address: str) -> None:
        """Permit a connection to *host*, which was made to *address*.

        Raises:
            AddressRefused: that is out of reach.
        """
        found = _plain(ip_address(address))
        if _is_public(found) or host in self.allowed:
            if host == self.named.host:
                self.first.setdefault(host, found)
            return
        if host == self.named.host and (port == self.named.port or self.own_ports or not found.is_loopback):
            if not _is_public(self.first.setdefault(host, found)):
                return
        elif self.neighbours and _kind(found) == _kind(self.first.get(self.named.host)):
            return
        raise AddressRefused(f"{found} is not a public address, and was named by {self.named.host}")

    def hint(self, host: str) -> str:
        """Return what the operator can do if *host* was refused, but is meant."""
        return f"if this is intended, add --allow-redirect {host}"


@dataclass(frozen=True)
class PublicReach(Reach):
    """Public addresses, and those of *networks*; the server that the operator named may have no others."""

    networks: Collection[IPv4Network | IPv6Network] = ()

    def check(self, host: str, port: int, address: str) -> None:
        """Do the same as ``Reach.check``."""
        del host, port
        found = _plain(ip_address(address))
        if not _is_public(found) and not any(found in network for network in self.networks):
            raise AddressRefused(f"{found} is not a public address")

    def hint(self, host: str) -> str:
        """Do the same as ``Reach.hint``."""
        return f"if {host} is meant, add its network to the setting webhook_networks"


def limit(manager: urllib3.PoolManager, reach: Reach) -> urllib3.PoolManager:
    """Have *manager* check the address of every connection before anything is sent; return it.

    What counts is the address that was connected to, not one that the name had a moment before.
    """

    def derive(kind: Any) -> Any:  # noqa: ANN401 -- a class of connections, as urllib3 has it
        class Connection(kind):  # type: ignore[misc]  # of http or https
            def _new_conn(self) -> socket.socket:
                connected: socket.socket = super()._new_conn()
                try:
                    reach.check(self.host, self.port, connected.getpeername()[0])
                except BaseException:
                    connected.close()
                    raise
                return connected

        return Connection

    return connecting_by(manager, derive)


def _plain(address: Address) -> Address:
    """Return the address of IPv4 that one of IPv6 stands for; any other unchanged."""
    if not isinstance(address, IPv6Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: Address) -> bool:
    is_local = any(address in network for network in _LOCAL)
    return address.is_global and not address.is_multicast and not is_local


def _kind(address: Address | None) -> tuple[bool, ...]:
    """Return what is compared of two addresses to call them neighbours."""
    if address is None:
        return ()
    return address.is_loopback, address.is_link_local, address.is_multicast, _is_public(address)
