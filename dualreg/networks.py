"""Networks: the addresses that one client can choose from, which count as one where clients are limited."""

from functools import lru_cache
from ipaddress import ip_address, ip_network

#: Of how many addresses the network is remembered: many requests come from each.
_REMEMBERED = 1 << 12


@lru_cache(maxsize=_REMEMBERED)
def network_of(address: str) -> str:
    """Return the addresses that a client can choose from: its own, or the /64 network of IPv6."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    mapped = getattr(parsed, "ipv4_mapped", None)
    if mapped or parsed.version == 4:  # noqa: PLR2004 -- IPv4
        return str(mapped or parsed)
    return str(ip_network((parsed, 64), strict=False))
