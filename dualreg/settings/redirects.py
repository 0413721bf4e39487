"""Redirects: which clients fetch blobs from the object store themselves, as ``s3_redirects`` says."""

from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple, Self

from dualreg.patterns import check_pattern, matches

_MODES = {"on": True, "off": False}
_EXPECTED = (
    "expected on, off, or a comma-separated list of one of these and of NETWORK=MODE or USER-AGENT=MODE"
)


class Redirects(NamedTuple):
    """Whom to redirect.

    Attributes:
        default: Whether to redirect those of whom nothing is said.
        networks: What is said of networks.
        agents: What is said of User-Agents, by patterns.
    """

    default: bool
    networks: tuple[tuple[IPv4Network | IPv6Network, bool], ...]
    agents: tuple[tuple[str, bool], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what the setting says: such as ``on``, or ``off,10.0.0.0/8=on,docker/1.*=off``.

        Raises:
            ValueError: it is malformed.
        """
        default, networks, agents = list[bool](), list[tuple[IPv4Network | IPv6Network, bool]](), []
        for entry in text.split(","):
            who, _, mode = entry.strip().rpartition("=")
            if mode not in _MODES:
                raise ValueError(_EXPECTED)
            if not who:
                default.append(_MODES[mode])
            elif network := _network(who):
                networks.append((network, _MODES[mode]))
            else:
                agents.append((check_pattern(who), _MODES[mode]))
        if len(default) > 1:
            raise ValueError("more than one mode without a network or User-Agent")
        return cls(default == [True], tuple(networks), tuple(agents))

    @property
    def are_off(self) -> bool:
        """Whether no client is redirected."""
        return not (self.default or any(mode for _, mode in (*self.networks, *self.agents)))

    def include(self, address: str, agent: str) -> bool:
        """Return whether a client is to be redirected; if it is in several entries, one that says off wins.

        Args:
            address: Its IP address; empty if that is not known.
            agent: Its User-Agent.
        """
        said = {mode for pattern, mode in self.agents if matches(pattern, agent)}
        if self.networks and address:
            parsed = ip_address(address)
            parsed = getattr(parsed, "ipv4_mapped", None) or parsed
            said |= {mode for network, mode in self.networks if parsed in network}
        return False not in said and (True in said or self.default)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    """Return the network that a text means; None if it means none."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


@cache  # of few settings, for all requests
def redirects_of(text: str) -> Redirects:
    """Return what the setting says, which is known to be valid."""
    return Redirects.parse(text)
