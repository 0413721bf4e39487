"""SQL of logins that failed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.tables import LoginFailures


@dataclass(frozen=True, slots=True)
class AttemptQueries:
    """How many logins failed of late."""

    connection: Connection
    now: datetime

    def counted(self, subjects: Iterable[str], after: datetime) -> Mapping[str, tuple[int, datetime]]:
        """Return how many were counted for each of *subjects*, and since when, if that is *after*."""
        query = select(LoginFailures.subject, LoginFailures.failures, LoginFailures.since)
        query = query.where(LoginFailures.subject.in_([*subjects]), LoginFailures.since > after)
        return {subject: (failures, since) for subject, failures, since in self.connection.execute(query)}

    def count(self, subjects: Iterable[str], after: datetime) -> None:
        """Count one more for each of *subjects*, and forget what was counted since earlier than *after*."""
        self.connection.execute(delete(LoginFailures).where(LoginFailures.since <= after))
        for subject in sorted(subjects):  # in one order, so that two transactions never wait for each other
            row = insert(self.connection, LoginFailures).values(subject=subject, failures=1, since=self.now)
            more = {"failures": LoginFailures.failures + 1}
            self.connection.execute(
                row.on_conflict_do_update(index_elements=[LoginFailures.subject], set_=more)
            )

    def forget(self, subject: str) -> None:
        """Count anew."""
        self.connection.execute(delete(LoginFailures).where(LoginFailures.subject == subject))
