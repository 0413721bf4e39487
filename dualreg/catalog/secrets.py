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
    """What is kept of the secrets that were handed out."""

    connection: Connection

    def add(self, row: SecretRow) -> None:
        """Record a new one."""
        self.connection.execute(insert(self.connection, Secrets).values(**asdict(row)))

    def find(self, id_: str) -> SecretRow | None:
        """Return what is kept of one."""
        row = self.connection.execute(select(*_columns()).where(Secrets.id == id_)).one_or_none()
        return None if row is None else SecretRow(*row)

    def list(self, kind: str) -> Sequence[SecretRow]:
        """Return those of a kind, the oldest first."""
        query = select(*_columns()).where(Secrets.kind == kind).order_by(Secrets.created_at, Secrets.id)
        return [SecretRow(*row) for row in self.connection.execute(query)]

    def remove(self, id_: str) -> None:
        """Forget one."""
        self.connection.execute(delete(Secrets).where(Secrets.id == id_))

    def remove_all(self, account: str, kind: str | None = None) -> None:
        """Forget all of an account, or those of one kind."""
        whose = Secrets.account == account
        self.connection.execute(
            delete(Secrets).where(whose if kind is None else whose & (Secrets.kind == kind))
        )

    def keep(self, account: str, kind: str, count: int) -> None:
        """Forget all of an account's of a kind but for the *count* latest."""
        mine = (Secrets.account == account) & (Secrets.kind == kind)
        latest = select(Secrets.id).where(mine).order_by(Secrets.created_at.desc(), Secrets.id).limit(count)
        self.connection.execute(delete(Secrets).where(mine, Secrets.id.not_in(latest)))


def _columns() -> list[ColumnElement[Any]]:
    return [getattr(Secrets, each.name) for each in fields(SecretRow)]
