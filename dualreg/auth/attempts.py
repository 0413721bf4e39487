"""The limits of failed logins, counted in the catalog for all processes together.

Failures are counted by account and network together, so that nobody can lock others out; by network, against
guesses at many accounts; and by account, against guesses from many networks. A secret that is wrong again was
no further guess: it counts once, so that a script with an outdated password locks nobody out. An account goes
on where it is known, whatever others do there or elsewhere: only what fails for it there counts. As many
logins as there are threads may be tried at the same moment before the first of them is counted.
"""

import hashlib
import hmac
import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from ipaddress import ip_address
from threading import Lock
from typing import NamedTuple, Self

from cachetools import TTLCache

from dualreg.auth.keyring import Keyring
from dualreg.catalog.database import Catalog
from dualreg.errors import TooManyAttempts
from dualreg.networks import network_of

#: How long a failure counts.
WINDOW = timedelta(minutes=15)
#: How long an account that logged in from a network is known there, and how often that is written down.
KNOWN = timedelta(days=30)
_RENEWAL = timedelta(days=1)
_RENEWAL_SIZE = 10_000
#: Bytes that are kept of the hash of a wrong secret: enough to recognize it, and too few to find it by. One
#: guess in 65,536 is mistaken for an earlier one, and not counted.
_TRACE_SIZE = 2
#: What the subjects of wrong secrets begin with, and no other, which are hexadecimal.
_TRACE = "secret:"


class Limits(NamedTuple):
    """Failures within the window after which logins are refused.

    Attributes:
        pair: Of one account from one network.
    """

    pair: int = 10
    address: int = 100
    account: int = 200

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the limits in the setting ``login_limits``, which was checked; the defaults of others."""
        entries = (entry.strip().partition("=") for entry in text.split(",") if entry)
        return cls(**{name: int(limit) for name, _, limit in entries})


class _Subjects(NamedTuple):
    """What a login is counted under.

    In the order of ``Limits``. They are hashes: a name that a client made up is not stored as it is, and has
    a bounded length.
    """

    pair: str
    address: str
    account: str

    @classmethod
    def of(cls, account: str, address: str) -> Self:
        network = network_of(address)
        return cls(_hash("pair", account, network), _hash("address", network), _hash("account", account))


class Attempts:
    """Counts failed logins, and refuses further ones."""

    def __init__(
        self, catalog: Catalog, limits: Limits | None = None, keyring: Keyring | None = None
    ) -> None:
        """Count in *catalog*.

        Args:
            limits: None: the defaults.
            keyring: Has the secret without which nobody can tell which secrets count as the same.
        """
        self._catalog = catalog
        self._limits = limits or Limits()
        self._keyring = keyring or Keyring(catalog)
        self._noted: TTLCache[str, None] = TTLCache(_RENEWAL_SIZE, _RENEWAL.total_seconds())
        self._lock = Lock()

    def check(self, account: str, address: str) -> bool:
        """Return whether a login to this account from this address has failed within the window.

        The limits of the account and of the address do not count where the account has logged in lately:
        others cannot lock it out there.

        Raises:
            TooManyAttempts: too many have; the detail says after how many seconds to retry.
        """
        subjects, now = _Subjects.of(account, address), self._catalog.now()
        limits = dict(zip(subjects, self._limits, strict=True))
        with self._catalog.read() as tx:
            counted = tx.attempts.failures(limits, now - WINDOW)
            waits = _waits(counted, limits, now)
            others = waits.keys() - {subjects.pair}
            if others and tx.attempts.has_succeeded(subjects.pair, now - KNOWN):
                waits = {subject: wait for subject, wait in waits.items() if subject not in others}
        _require_none(waits)
        return subjects.pair in counted

    def check_address(self, address: str) -> None:
        """Check that not too many logins by issuers from this address have failed within the window.

        They are counted apart: codes cannot be guessed, so neither kind of login locks out the other.

        Raises:
            TooManyAttempts: as ``check``.
        """
        subject, now = _hash("issuers", network_of(address)), self._catalog.now()
        with self._catalog.read() as tx:
            counted = tx.attempts.failures([subject], now - WINDOW)
        _require_none(_waits(counted, {subject: self._limits.address}, now))

    def failed_at(self, address: str) -> None:
        """Count a failed login by an issuer for the address."""
        with self._catalog.begin() as tx:
            tx.attempts.forget_failures(WINDOW)
            tx.attempts.count_failure(_hash("issuers", network_of(address)), "")

    def failed(self, account: str, address: str, secret: str) -> None:
        """Count a failed login, unless the account was tried with the same secret within the window."""
        subjects = _Subjects.of(account, address)
        trace = _TRACE + _hash("secret", account, self._trace(account, secret))[len(_TRACE) :]
        with self._catalog.begin() as tx:
            tx.attempts.forget_failures(WINDOW)
            if tx.attempts.count_failure(trace, subjects.account) == 1:
                for subject in sorted(subjects):  # in a fixed order, so that transactions cannot deadlock
                    tx.attempts.count_failure(
                        subject, "" if subject == subjects.address else subjects.account
                    )

    def succeeded(self, account: str, address: str, *, failed_before: bool) -> None:
        """Note that the account is known at this address, and forget its failed logins from there."""
        pair, now = _Subjects.of(account, address).pair, self._catalog.now()
        with self._lock:
            noted = pair in self._noted
        if noted and not failed_before:
            return
        with self._catalog.begin() as tx:
            tx.attempts.reset(pair)
            tx.attempts.record_success(pair, forget=now - KNOWN)
        with self._lock:
            self._noted[pair] = None

    def _trace(self, account: str, secret: str) -> str:
        """Return what is kept of a wrong secret."""
        key = hashlib.sha256(self._keyring.active().pem.encode()).digest()
        return hmac.new(key, f"{account}\0{secret}".encode(), hashlib.sha256).hexdigest()[: 2 * _TRACE_SIZE]


class Locked(NamedTuple):
    """Where the right password of an account is refused, because too many logins have failed.

    Attributes:
        everywhere: Wherever it has not logged in lately.
        networks: From how many networks, because of what failed from there.
    """

    everywhere: bool = False
    networks: int = 0


def locked(catalog: Catalog, limits: Limits, accounts: Iterable[str]) -> Mapping[str, Locked]:
    """Return those of *accounts* that are locked somewhere by failures of their own, with where."""
    with catalog.read() as tx:
        counters = tx.attempts.frequent(min(limits.pair, limits.account), catalog.now() - WINDOW)
    found: dict[str, Locked] = {}
    for subject, account, failures in counters:
        known = found.get(account, Locked())
        if subject == account:
            found[account] = known._replace(everywhere=failures >= limits.account)
        elif not subject.startswith(_TRACE) and failures >= limits.pair:
            found[account] = known._replace(networks=known.networks + 1)
    named = ((name, found.get(_hash("account", name), Locked())) for name in accounts)
    return {name: locked for name, locked in named if any(locked)}


def unlock(catalog: Catalog, account: str) -> int:
    """Forget all failed logins to the account; return their number."""
    with catalog.begin() as tx:
        return tx.attempts.unlock(_hash("account", account))


def unlock_address(catalog: Catalog, address: str) -> int:
    """Forget how many logins from the address have failed; return the number.

    Raises:
        ValueError: it is no IP address.
    """
    network = network_of(str(ip_address(address)))
    subjects = [_hash(kind, network) for kind in ("address", "issuers")]
    with catalog.begin() as tx:
        counted = tx.attempts.failures(subjects, catalog.now() - WINDOW)
        for subject in subjects:
            tx.attempts.reset(subject)
    return sum(failures for failures, _ in counted.values())


def _waits(
    counted: Mapping[str, tuple[int, datetime]], limits: Mapping[str, int], now: datetime
) -> dict[str, timedelta]:
    """Return for how long each subject has to wait whose limit is reached."""
    return {
        subject: since + WINDOW - now
        for subject, (count, since) in counted.items()
        if count >= limits[subject] and since <= now + WINDOW  # unless the clock was set back
    }


def _require_none(waits: Mapping[str, timedelta]) -> None:
    """Raise TooManyAttempts if somebody has to wait."""
    if waits:
        raise TooManyAttempts(retry_after=math.ceil(max(waits.values()).total_seconds()))


def _hash(*parts: str) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
