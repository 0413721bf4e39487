"""SQL of signing keys."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.tables import SigningKeys


@dataclass(frozen=True, slots=True)
class KeyQueries:
    """Which keys the registry signs with: one for each purpose, and those that are retired."""

    connection: Connection
    now: datetime

    def add(self, kid: str, purpose: str, private_key: str) -> None:
        """Record the purpose's key, in PEM, unless it has one.

        Of two processes that do so at once, the later waits for the earlier, and then leaves its key.
        """
        row = insert(self.connection, SigningKeys).values(
            kid=kid, purpose=purpose, private_key=private_key, created_at=self.now
        )
        self.connection.execute(row.on_conflict_do_nothing())

    def find(self, purpose: str) -> str | None:
        """Return the purpose's key, in PEM."""
        query = select(SigningKeys.private_key).where(
            SigningKeys.purpose == purpose, SigningKeys.retired_at.is_(None)
        )
        return self.connection.scalar(query)
