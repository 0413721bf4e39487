"""SQL of signing keys."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.tables import SigningKeys


@dataclass(frozen=True, slots=True)
class KeyQueries:
    """Which keys the registry signs with."""

    connection: Connection
    now: datetime

    def add(self, kid: str, purpose: str, private_key: str) -> None:
        """Record a key, in PEM."""
        row = insert(self.connection, SigningKeys).values(
            kid=kid, purpose=purpose, private_key=private_key, created_at=self.now
        )
        self.connection.execute(row.on_conflict_do_nothing())

    def oldest(self, purpose: str) -> str | None:
        """Return the oldest key of that purpose which is not retired, in PEM."""
        query = select(SigningKeys.private_key).where(
            SigningKeys.purpose == purpose, SigningKeys.retired_at.is_(None)
        )
        return self.connection.scalar(query.order_by(SigningKeys.created_at, SigningKeys.kid).limit(1))
