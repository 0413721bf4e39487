"""A state machine of logins: an attacker, an office, and jobs with outdated passwords, against an oracle."""

from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from dualreg.auth import attempts
from dualreg.auth.attempts import KNOWN, WINDOW, Attempts, Limits, Locked, locked, unlock, unlock_address
from dualreg.catalog.database import Catalog
from dualreg.catalog.upgrade import upgrade
from dualreg.errors import TooManyAttempts
from tests import quick
from tests.conftest import Clock
from tests.databases import database_in
from tests.soak import short_or_long

LIMITS = Limits(pair=3, address=5, account=7)
ACCOUNTS = ["alice", "bob", "carol"]
NETWORKS = ["192.0.2.1", "192.0.2.2", "198.51.100.1", "198.51.100.2"]
RIGHT = "right"
SECRETS = ["outdated", *(f"guess {number}" for number in range(12))]
ACCOUNT, NETWORK = st.sampled_from(ACCOUNTS), st.sampled_from(NETWORKS)

Counter = tuple[int, datetime]


class Logins(RuleBasedStateMachine):
    """Two processes that share a catalog, and what they should say by a few dictionaries."""

    def __init__(self) -> None:
        """Begin with nobody known anywhere."""
        super().__init__()
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(TemporaryDirectory(dir=quick.memory_folder())))
        self.clock = Clock()
        self.catalog = self.stack.enter_context(closing(Catalog(database_in(folder), now=self.clock)))
        upgrade(self.catalog)
        self.processes = [Attempts(self.catalog, LIMITS) for _ in range(2)]
        self.counters: dict[tuple[str, ...], Counter] = {}
        self.known: dict[tuple[str, str], datetime] = {}

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.stack.close()

    def _count(self, *key: str) -> int:
        """Return how much of a counter counts now."""
        count, since = self.counters.get(key, (0, self.clock()))
        return count if since > self.clock() - WINDOW else 0

    def _is_refused(self, account: str, network: str) -> bool:
        """Return what the oracle says."""
        if self._count("pair", account, network) >= LIMITS.pair:
            return True
        at = self.known.get((account, network))
        if at and at > self.clock() - KNOWN:
            return False
        return self._count("address", network) >= LIMITS.address or (
            self._count("account", account) >= LIMITS.account
        )

    def _fail(self, *key: str) -> int:
        count, since = self.counters.get(key, (0, self.clock()))
        if since <= self.clock() - WINDOW:
            count, since = 0, self.clock()
        self.counters[key] = count + 1, since
        return count + 1

    @rule(account=ACCOUNT, network=NETWORK, secret=st.sampled_from(SECRETS), process=st.integers(0, 1))
    def log_in_wrongly(self, account: str, network: str, secret: str, process: int) -> None:
        """Guess, mistype, or send an outdated password."""
        self._log_in(account, network, secret, process)

    @rule(account=ACCOUNT, network=NETWORK, process=st.integers(0, 1))
    def log_in(self, account: str, network: str, process: int) -> None:
        """Send the right password."""
        self._log_in(account, network, RIGHT, process)

    @rule(network=NETWORK, count=st.integers(2, 8))
    def spray(self, network: str, count: int) -> None:
        """Guess at accounts that there are and that there are not, as an attacker in an office would."""
        for number in range(count):
            self._log_in([*ACCOUNTS, "eve", "mallory"][number % 5], network, SECRETS[-1 - number], 0)

    @rule(account=ACCOUNT, network=NETWORK, times=st.integers(2, 20))
    def run_job(self, account: str, network: str, times: int) -> None:
        """Run a job with an outdated password, again and again."""
        for number in range(times):
            self._log_in(account, network, "outdated", number % 2)

    def _log_in(self, account: str, network: str, secret: str, process: int) -> None:
        own, refused = self.processes[process], self._is_refused(account, network)
        try:
            failed_before = own.check(account, network)
        except TooManyAttempts:
            assert refused, (account, network)
            return
        assert not refused, (account, network)
        assert failed_before == (self._count("pair", account, network) > 0)
        if secret == RIGHT:
            own.succeeded(account, network, failed_before=failed_before)
            self.counters.pop(("pair", account, network), None)
            at = self.known.get((account, network))
            if failed_before or at is None or at <= self.clock() - KNOWN:
                self.known[account, network] = self.clock()
            return
        own.failed(account, network, secret)
        if self._fail("secret", account, secret) == 1:
            self._fail("pair", account, network)
            self._fail("address", network)
            self._fail("account", account)

    @rule(minutes=st.sampled_from([1, 5, 15, 60, 31 * 24 * 60]))
    def wait(self, minutes: int) -> None:
        """Let time pass. Processes note anew where accounts are known: they restart in a month."""
        self.clock.advance(timedelta(minutes=minutes))
        if minutes > WINDOW.total_seconds() / 60:
            self.processes = [Attempts(self.catalog, LIMITS) for _ in range(2)]

    @rule(account=ACCOUNT)
    def unlock(self, account: str) -> None:
        """Let an account log in again."""
        assert unlock(self.catalog, account) >= self._count("account", account)
        for key in [key for key in self.counters if key[0] != "address" and key[1] == account]:
            del self.counters[key]

    @rule(network=NETWORK)
    def unlock_address(self, network: str) -> None:
        """Let all accounts log in from an address again."""
        assert unlock_address(self.catalog, network) == self._count("address", network)
        self.counters.pop(("address", network), None)

    @invariant()
    def what_is_locked_is_listed(self) -> None:
        """As the oracle counts it."""
        expected = {}
        for account in ACCOUNTS:
            networks = sum(self._count("pair", account, each) >= LIMITS.pair for each in NETWORKS)
            found = Locked(self._count("account", account) >= LIMITS.account, networks)
            expected |= {account: found} if any(found) else {}
        assert locked(self.catalog, LIMITS, ACCOUNTS) == expected


@pytest.mark.slow
def test_logins_are_refused_as_an_oracle_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """And counted, and listed, whoever guesses and whatever jobs repeat."""
    monkeypatch.setattr(attempts, "_TRACE_SIZE", 16)  # no two secrets are mistaken for the same
    chosen = settings(
        max_examples=short_or_long(15, 500),
        stateful_step_count=short_or_long(40, 60),
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )
    run_state_machine_as_test(Logins, settings=chosen)  # type: ignore[no-untyped-call]
