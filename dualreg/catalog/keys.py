"""SQL of signing keys."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

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

    def retire(self, purpose: str, grace: timedelta) -> None:
        """Take the purpose's key out of use; it is accepted for *grace* more, and older ones no longer."""
        until = self.now + grace
        mine = SigningKeys.purpose == purpose
        over = mine & SigningKeys.retired_at.is_not(None) & (SigningKeys.retired_at > until)
        self.connection.execute(update(SigningKeys).where(over).values(retired_at=until))
        current = mine & SigningKeys.retired_at.is_(None)
        self.connection.execute(update(SigningKeys).where(current).values(retired_at=until))

    def accepted(self, kid: str, purpose: str) -> str | None:
        """Return a key of the purpose, in PEM, whose signatures still count."""
        query = select(SigningKeys.private_key).where(
            SigningKeys.kid == kid, SigningKeys.purpose == purpose, self._counts()
        )
        return self.connection.scalar(query)

    def count_accepted(self, purpose: str) -> int:
        """Return how many keys there are whose signatures count."""
        query = select(func.count()).where(SigningKeys.purpose == purpose, self._counts())
        return self.connection.scalar(query) or 0

    def _counts(self) -> ColumnElement[bool]:
        return or_(SigningKeys.retired_at.is_(None), SigningKeys.retired_at > self.now)

    def find(self, purpose: str) -> str | None:
        """Return the purpose's key, in PEM."""
        query = select(SigningKeys.private_key).where(
            SigningKeys.purpose == purpose, SigningKeys.retired_at.is_(None)
        )
        return self.connection.scalar(query)
