"""Attempts: failed logins are counted, for all processes together, and too many have to wait.

Counted is by account and address together, so that nobody locks others out; by address, for those who try
many accounts; and by account, for those who come from many addresses. As many as there are threads may try at
the same moment before the first of them is counted.
"""

import hashlib
import math
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address, ip_network

from dualreg.catalog.database import Catalog
from dualreg.errors import TooManyAttempts

#: After how long failures are forgotten.
WINDOW = timedelta(minutes=15)
#: How many may fail within it.
PAIR_LIMIT = 10
ADDRESS_LIMIT = 100
ACCOUNT_LIMIT = 200


class Attempts:
    """Failed logins, in the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        """Count in *catalog*."""
        self._catalog = catalog

    def check(self, account: str, address: str) -> bool:
        """Let a login be tried; tell whether one of this account has failed at this address lately.

        Raises:
            TooManyAttempts: too many have failed; its detail says for how many seconds.
        """
        limits = _subjects(account, address)
        now = self._catalog.now()
        with self._catalog.read() as tx:
            counted = tx.attempts.counted(limits, now - WINDOW)
        waits = [
            since + WINDOW - now for subject, (count, since) in counted.items() if count >= limits[subject]
        ]
        if waits:
            raise TooManyAttempts(retry_after=math.ceil(max(waits).total_seconds()))
        pair, *_ = limits
        return pair in counted

    def failed(self, account: str, address: str) -> None:
        """Count a login that failed."""
        with self._catalog.begin() as tx:
            tx.attempts.count(_subjects(account, address), self._catalog.now() - WINDOW)

    def succeeded(self, account: str, address: str) -> None:
        """Forget what failed of this account at this address."""
        pair, *_ = _subjects(account, address)
        with self._catalog.begin() as tx:
            tx.attempts.forget(pair)


def _subjects(account: str, address: str) -> Mapping[str, int]:
    """Return what is counted, the pair first, with its limits.

    Hashed: a name that somebody made up is not kept as they wrote it, and has a bounded length.
    """
    network = _network(address)
    subjects = {
        ("pair", account, network): PAIR_LIMIT,
        ("address", network): ADDRESS_LIMIT,
        ("account", account): ACCOUNT_LIMIT,
    }
    return {hashlib.sha256(repr(key).encode()).hexdigest(): limit for key, limit in subjects.items()}


def _network(address: str) -> str:
    """Return what one client can choose its address from: of IPv6, that is 64 bits."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    mapped = getattr(parsed, "ipv4_mapped", None)
    if mapped or parsed.version == 4:  # noqa: PLR2004 -- IPv4
        return str(mapped or parsed)
    return str(ip_network((parsed, 64), strict=False))
