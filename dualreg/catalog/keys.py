"""SQL of signing keys. ``signing.signing_key`` returns a key, and creates it if necessary."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from dualreg.catalog.dialects import insert
from dualreg.catalog.tables import SigningKeys


@dataclass(frozen=True, slots=True)
class KeyQueries:
    """The keys that the registry signs with: the current one of each purpose, and retired ones."""

    connection: Connection
    now: datetime

    def add(self, kid: str, purpose: str, private_key: str) -> None:
        """Record the current key of the purpose, in PEM; nothing happens if it has one.

        Of concurrent transactions, the first to commit wins; the others wait for it and change nothing.
        """
        row = insert(self.connection, SigningKeys).values(
            kid=kid, purpose=purpose, private_key=private_key, created_at=self.now
        )
        self.connection.execute(row.on_conflict_do_nothing())

    def retire(self, purpose: str, grace: timedelta) -> None:
        """Retire the current key: it is accepted for *grace* from now, and keys retired before no longer."""
        until = self.now + grace
        same = SigningKeys.purpose == purpose
        later = same & SigningKeys.retired_at.is_not(None) & (SigningKeys.retired_at > until)
        self.connection.execute(update(SigningKeys).where(later).values(retired_at=until))
        current = same & SigningKeys.retired_at.is_(None)
        self.connection.execute(update(SigningKeys).where(current).values(retired_at=until))

    def accepted(self, kid: str, purpose: str) -> str | None:
        """Return the key *kid* of the purpose, in PEM, if signatures by it are accepted; else None."""
        query = select(SigningKeys.private_key).where(
            SigningKeys.kid == kid, SigningKeys.purpose == purpose, self._is_accepted()
        )
        return self.connection.scalar(query)

    def count_accepted(self, purpose: str) -> int:
        """Return the number of keys of the purpose whose signatures are accepted."""
        query = select(func.count()).where(SigningKeys.purpose == purpose, self._is_accepted())
        return self.connection.scalar(query) or 0

    def _is_accepted(self) -> ColumnElement[bool]:
        return or_(SigningKeys.retired_at.is_(None), SigningKeys.retired_at > self.now)

    def find(self, purpose: str) -> str | None:
        """Return the current key of the purpose, in PEM; None if it has none."""
        query = select(SigningKeys.private_key).where(
            SigningKeys.purpose == purpose, SigningKeys.retired_at.is_(None)
        )
        return self.connection.scalar(query)
