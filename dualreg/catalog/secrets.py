"""SQL of API keys and refresh tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.rows import SecretRow
from dualreg.catalog.tables import KeyUses, Secrets


@dataclass(frozen=True, slots=True)
class SecretQueries:
    """The API keys and refresh tokens that were issued, as hashes."""

    connection: Connection

    def add(self, row: SecretRow) -> None:
        """Add a secret, whose id must be new."""
        stored = {name: value for name, value in asdict(row).items() if name != "used_at"}
        self.connection.execute(insert(self.connection, Secrets).values(**stored))

    def find(self, id_: str) -> SecretRow | None:
        """Return the secret, or None if there is none."""
        row = self.connection.execute(_secrets().where(Secrets.id == id_)).one_or_none()
        return None if row is None else SecretRow(*row)

    def list(self, kind: str) -> Sequence[SecretRow]:
        """Return all secrets of a kind, oldest first."""
        query = _secrets().where(Secrets.kind == kind).order_by(Secrets.created_at, Secrets.id)
        return [SecretRow(*row) for row in self.connection.execute(query)]

    def lock(self, id_: str) -> bool:
        """Return whether there is the secret, which stays until the end of the transaction."""
        query = select(Secrets.id).where(Secrets.id == id_).with_for_update()
        return self.connection.execute(query).first() is not None

    def of(self, account: str, *kinds: str) -> Sequence[SecretRow]:
        """Return all secrets of an account and of *kinds*, oldest first."""
        query = _secrets().where(Secrets.account == account, Secrets.kind.in_(kinds))
        query = query.order_by(Secrets.created_at, Secrets.id)
        return [SecretRow(*row) for row in self.connection.execute(query)]

    def record_uses(self, uses: Mapping[str, datetime]) -> None:
        """Record when keys were last used, by their ids; forget those of keys that are gone."""
        rows = [{"id": id_, "used_at": uses[id_]} for id_ in sorted(uses)]  # in a fixed order: no deadlocks
        row = insert(self.connection, KeyUses)
        latest = row.on_conflict_do_update(
            index_elements=[KeyUses.id], set_={"used_at": row.excluded.used_at}
        )
        self.connection.execute(latest, rows)
        self.connection.execute(delete(KeyUses).where(KeyUses.id.not_in(select(Secrets.id))))

    def remove_bound(self, kind: str, binding: str) -> None:
        """Delete all secrets of a kind that are bound to *binding*, and those bound to these in turn."""
        waiting = [binding]
        while waiting:
            bound = (Secrets.kind == kind) & Secrets.binding.in_(waiting)
            waiting = [*self.connection.scalars(delete(Secrets).where(bound).returning(Secrets.id))]

    def remove(self, id_: str) -> None:
        """Delete the secret. It is not an error if there is none."""
        self.connection.execute(delete(Secrets).where(Secrets.id == id_))

    def remove_expired(self, kind: str, now: datetime) -> None:
        """Delete all secrets of a kind that expired before *now*."""
        self.connection.execute(delete(Secrets).where(Secrets.kind == kind, Secrets.expires_at <= now))

    def remove_all(self, account: str, kind: str | None = None, *, but: str = "") -> None:
        """Delete all secrets of an account but the one with the id *but*; only those of *kind*, if given."""
        query = delete(Secrets).where(Secrets.account == account, Secrets.id != but)
        self.connection.execute(query if kind is None else query.where(Secrets.kind == kind))

    def keep(self, account: str, kind: str, count: int) -> None:
        """Delete all secrets of an account and kind except the *count* newest."""
        owned = (Secrets.account == account) & (Secrets.kind == kind)
        latest = select(Secrets.id).where(owned).order_by(Secrets.created_at.desc(), Secrets.id).limit(count)
        self.connection.execute(delete(Secrets).where(owned, Secrets.id.not_in(latest)))


def _secrets() -> Select[Any]:
    """Return the query of secrets, with when keys were last used."""
    columns = [getattr(Secrets, each.name) for each in fields(SecretRow) if each.name != "used_at"]
    return select(*columns, KeyUses.used_at).join_from(
        Secrets, KeyUses, KeyUses.id == Secrets.id, isouter=True
    )
