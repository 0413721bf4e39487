"""SQL of failed logins."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.tables import LoginFailures


@dataclass(frozen=True, slots=True)
class AttemptQueries:
    """Counters of failed logins, by subject: an account, an address, or both together."""

    connection: Connection
    now: datetime

    def failures(self, subjects: Iterable[str], after: datetime) -> Mapping[str, tuple[int, datetime]]:
        """Return count and first failure of each of *subjects* whose first failure is after *after*."""
        query = select(LoginFailures.subject, LoginFailures.failures, LoginFailures.since)
        query = query.where(LoginFailures.subject.in_([*subjects]), LoginFailures.since > after)
        return {subject: (failures, since) for subject, failures, since in self.connection.execute(query)}

    def record_failure(self, subjects: Iterable[str], after: datetime) -> None:
        """Count a failure of each of *subjects*; delete the counters that ``failures`` would not return."""
        self.connection.execute(delete(LoginFailures).where(LoginFailures.since <= after))
        for subject in sorted(subjects):  # in a fixed order, so that transactions cannot deadlock
            row = insert(self.connection, LoginFailures).values(subject=subject, failures=1, since=self.now)
            counted = {"failures": LoginFailures.failures + 1}
            self.connection.execute(
                row.on_conflict_do_update(index_elements=[LoginFailures.subject], set_=counted)
            )

    def reset(self, subject: str) -> None:
        """Reset the counter of *subject*."""
        self.connection.execute(delete(LoginFailures).where(LoginFailures.subject == subject))
