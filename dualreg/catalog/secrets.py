"""SQL of API keys and refresh tokens."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.rows import SecretRow
from dualreg.catalog.tables import Secrets


@dataclass(frozen=True, slots=True)
class SecretQueries:
    """The API keys and refresh tokens that were issued, as hashes."""

    connection: Connection

    def add(self, row: SecretRow) -> None:
        """Add a secret, whose id must be new."""
        self.connection.execute(insert(self.connection, Secrets).values(**asdict(row)))

    def find(self, id_: str) -> SecretRow | None:
        """Return the secret, or None if there is none."""
        row = self.connection.execute(select(*_columns()).where(Secrets.id == id_)).one_or_none()
        return None if row is None else SecretRow(*row)

    def list(self, kind: str) -> Sequence[SecretRow]:
        """Return all secrets of a kind, oldest first."""
        query = select(*_columns()).where(Secrets.kind == kind).order_by(Secrets.created_at, Secrets.id)
        return [SecretRow(*row) for row in self.connection.execute(query)]

    def remove(self, id_: str) -> None:
        """Delete the secret. It is not an error if there is none."""
        self.connection.execute(delete(Secrets).where(Secrets.id == id_))

    def remove_all(self, account: str, kind: str | None = None) -> None:
        """Delete all secrets of an account; only those of *kind*, if it is given."""
        owned = Secrets.account == account
        self.connection.execute(
            delete(Secrets).where(owned if kind is None else owned & (Secrets.kind == kind))
        )

    def keep(self, account: str, kind: str, count: int) -> None:
        """Delete all secrets of an account and kind except the *count* newest."""
        owned = (Secrets.account == account) & (Secrets.kind == kind)
        latest = select(Secrets.id).where(owned).order_by(Secrets.created_at.desc(), Secrets.id).limit(count)
        self.connection.execute(delete(Secrets).where(owned, Secrets.id.not_in(latest)))


def _columns() -> list[ColumnElement[Any]]:
    return [getattr(Secrets, each.name) for each in fields(SecretRow)]
