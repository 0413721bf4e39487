"""The limit of failed logins, counted in the catalog for all processes together.

Failures are counted by account and address together, so that no client locks others out; by address, against
guesses at many accounts; and by account, against guesses from many addresses. As many logins as there are
threads may be tried at the same moment before the first of them is counted.
"""

import hashlib
import math
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address, ip_network

from dualreg.catalog.database import Catalog
from dualreg.errors import TooManyAttempts

#: How long a failure counts.
WINDOW = timedelta(minutes=15)
#: Failures within that time after which logins are refused.
PAIR_LIMIT = 10
ADDRESS_LIMIT = 100
ACCOUNT_LIMIT = 200


class Attempts:
    """Counts failed logins, and refuses further ones."""

    def __init__(self, catalog: Catalog) -> None:
        """Count in *catalog*."""
        self._catalog = catalog

    def check(self, account: str, address: str) -> bool:
        """Return whether a login to this account from this address has failed within the window.

        Raises:
            TooManyAttempts: too many have; the detail says after how many seconds to retry.
        """
        limits = _subjects(account, address)
        now = self._catalog.now()
        with self._catalog.read() as tx:
            counted = tx.attempts.failures(limits, now - WINDOW)
        waits = [
            since + WINDOW - now for subject, (count, since) in counted.items() if count >= limits[subject]
        ]
        if waits:
            raise TooManyAttempts(retry_after=math.ceil(max(waits).total_seconds()))
        pair, *_ = limits
        return pair in counted

    def failed(self, account: str, address: str) -> None:
        """Count a failed login."""
        with self._catalog.begin() as tx:
            tx.attempts.record_failure(_subjects(account, address), self._catalog.now() - WINDOW)

    def succeeded(self, account: str, address: str) -> None:
        """Forget the failed logins to this account from this address."""
        pair, *_ = _subjects(account, address)
        with self._catalog.begin() as tx:
            tx.attempts.reset(pair)


def _subjects(account: str, address: str) -> Mapping[str, int]:
    """Return the keys to count under, that of the pair first, and their limits.

    They are hashes: a name that a client made up is not stored as it is, and has a bounded length.
    """
    network = _network(address)
    subjects = {
        ("pair", account, network): PAIR_LIMIT,
        ("address", network): ADDRESS_LIMIT,
        ("account", account): ACCOUNT_LIMIT,
    }
    return {hashlib.sha256(repr(key).encode()).hexdigest(): limit for key, limit in subjects.items()}


def _network(address: str) -> str:
    """Return the addresses that one client can choose from: itself, or the /64 network of IPv6."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    mapped = getattr(parsed, "ipv4_mapped", None)
    if mapped or parsed.version == 4:  # noqa: PLR2004 -- IPv4
        return str(mapped or parsed)
    return str(ip_network((parsed, 64), strict=False))
