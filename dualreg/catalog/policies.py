"""SQL of policies: the rules by which operators forbid changes, whoever asks for them.

Processes remember them with their version, which whoever locks a repository gets along with it.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, ScalarSelect, delete, select

from dualreg.catalog.dialects import bar_writes, insert
from dualreg.catalog.notes import Note, NoteQueries
from dualreg.catalog.rows import ImmutableRow
from dualreg.catalog.tables import ImmutableTags, Repositories, ServiceState


@dataclass(frozen=True, slots=True)
class PolicyQueries:
    """The rules of immutable tags."""

    connection: Connection
    now: datetime

    def change(self) -> None:
        """Begin to change policies: wait for those who have locked a repository, and let others wait.

        Those who lock one after the transaction see another version.
        """
        self.bar()
        NoteQueries(self.connection).write(Note.POLICIES, secrets.token_hex(16))

    def bar(self) -> None:
        """Wait for those who have locked a repository, and let others wait until the transaction ends."""
        bar_writes(self.connection, Repositories)

    def version(self) -> str | None:
        """Return the version; None: there were never any policies."""
        return NoteQueries(self.connection).read(Note.POLICIES)

    def immutable(self) -> Sequence[ImmutableRow]:
        """Return the rules of immutable tags, by pattern."""
        query = select(ImmutableTags.pattern, ImmutableTags.added_at)
        return sorted(
            (ImmutableRow(*row) for row in self.connection.execute(query)), key=lambda row: row.pattern
        )

    def add_immutable(self, pattern: str) -> bool:
        """Add a rule after ``change``; return False if there is one."""
        row = insert(self.connection, ImmutableTags).values(pattern=pattern, added_at=self.now)
        added = row.on_conflict_do_nothing().returning(ImmutableTags.pattern)
        return self.connection.scalar(added) is not None

    def remove_immutable(self, pattern: str) -> bool:
        """Remove a rule after ``change``; return False if there is none."""
        gone = delete(ImmutableTags).where(ImmutableTags.pattern == pattern)
        return self.connection.execute(gone).rowcount > 0


def policy_version() -> ScalarSelect[str]:
    """Return the version, as a column of another query."""
    return select(ServiceState.value).where(ServiceState.name == Note.POLICIES).scalar_subquery()
