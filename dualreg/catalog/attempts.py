"""SQL of failed logins, and of where accounts have logged in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, or_, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.tables import LoginFailures, LoginSuccesses


@dataclass(frozen=True, slots=True)
class AttemptQueries:
    """Counters of failed logins, by subject: an account, an address, both together, or a wrong secret."""

    connection: Connection
    now: datetime

    def failures(self, subjects: Iterable[str], after: datetime) -> Mapping[str, tuple[int, datetime]]:
        """Return count and first failure of each of *subjects* whose first failure is after *after*."""
        query = select(LoginFailures.subject, LoginFailures.failures, LoginFailures.since)
        query = query.where(LoginFailures.subject.in_([*subjects]), LoginFailures.since > after)
        return {subject: (failures, since) for subject, failures, since in self.connection.execute(query)}

    def frequent(self, count: int, after: datetime) -> Sequence[tuple[str, str, int]]:
        """Return subject, account and failures of the counters of accounts with *count* failures or more.

        Only of those whose first failure is after *after*.
        """
        query = select(LoginFailures.subject, LoginFailures.account, LoginFailures.failures).where(
            LoginFailures.account != "", LoginFailures.failures >= count, LoginFailures.since > after
        )
        return [(subject, account, failures) for subject, account, failures in self.connection.execute(query)]

    def count_failure(self, subject: str, account: str) -> int:
        """Count a failure of *subject*, and return how many there are now.

        Args:
            account: The subject of the account that ``unlock`` forgets it with; empty: none.
        """
        row = insert(self.connection, LoginFailures).values(
            subject=subject, account=account, failures=1, since=self.now
        )
        counted = row.on_conflict_do_update(
            index_elements=[LoginFailures.subject], set_={"failures": LoginFailures.failures + 1}
        )
        return int(self.connection.scalars(counted.returning(LoginFailures.failures)).one())

    def forget_failures(self, window: timedelta) -> None:
        """Delete the counters that did not begin within *window*, before or, by another clock, after now."""
        outside = or_(LoginFailures.since <= self.now - window, LoginFailures.since > self.now + window)
        self.connection.execute(delete(LoginFailures).where(outside))

    def reset(self, subject: str) -> None:
        """Reset the counter of *subject*."""
        self.connection.execute(delete(LoginFailures).where(LoginFailures.subject == subject))

    def unlock(self, account: str) -> int:
        """Delete all counters that belong to the subject *account*; return how many failures its own had."""
        own = select(LoginFailures.failures).where(LoginFailures.subject == account)
        failures = self.connection.scalars(own).one_or_none() or 0
        self.connection.execute(delete(LoginFailures).where(LoginFailures.account == account))
        return failures

    def record_success(self, subject: str, *, forget: datetime) -> None:
        """Record that *subject* succeeded now; delete the successes that are not after *forget*."""
        self.connection.execute(delete(LoginSuccesses).where(LoginSuccesses.at <= forget))
        row = insert(self.connection, LoginSuccesses).values(subject=subject, at=self.now)
        self.connection.execute(
            row.on_conflict_do_update(index_elements=[LoginSuccesses.subject], set_={"at": self.now})
        )

    def has_succeeded(self, subject: str, after: datetime) -> bool:
        """Return whether *subject* succeeded after *after*."""
        query = select(LoginSuccesses.at).where(LoginSuccesses.subject == subject, LoginSuccesses.at > after)
        return self.connection.execute(query).first() is not None
