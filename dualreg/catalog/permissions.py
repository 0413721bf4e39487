"""SQL of permission lines."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Select, delete, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.rows import PermissionRow
from dualreg.catalog.tables import Permissions


@dataclass(frozen=True, slots=True)
class PermissionQueries:
    """Who may do what with which repositories."""

    connection: Connection

    def put(self, line: PermissionRow) -> PermissionRow:
        """Record a line, or add its actions to the one that is there; return it as it is now."""
        known = self._find(line.who, line.pattern)
        joined = PermissionRow(line.who, line.pattern, line.actions | known)
        actions = ",".join(sorted(joined.actions))
        row = insert(self.connection, Permissions).values(who=line.who, pattern=line.pattern, actions=actions)
        key = [Permissions.who, Permissions.pattern]
        self.connection.execute(row.on_conflict_do_update(index_elements=key, set_={"actions": actions}))
        return joined

    def of(self, names: Collection[str]) -> Sequence[PermissionRow]:
        """Return the lines whose *who* is one of *names*."""
        return self._read(_lines().where(Permissions.who.in_(names)))

    def list(self) -> Sequence[PermissionRow]:
        """Return every line."""
        return self._read(_lines())

    def remove(self, who: str, pattern: str) -> None:
        """Forget a line."""
        here = (Permissions.who == who) & (Permissions.pattern == pattern)
        self.connection.execute(delete(Permissions).where(here))

    def remove_all(self, who: str) -> int:
        """Forget every line of *who*; return how many there were."""
        return self.connection.execute(delete(Permissions).where(Permissions.who == who)).rowcount

    def _find(self, who: str, pattern: str) -> frozenset[str]:
        here = (Permissions.who == who) & (Permissions.pattern == pattern)
        known = self.connection.scalar(select(Permissions.actions).where(here).with_for_update())
        return frozenset(known.split(",")) if known else frozenset()

    def _read(self, query: Select[str, str, str]) -> Sequence[PermissionRow]:
        rows = self.connection.execute(query.order_by(Permissions.who, Permissions.pattern))
        return [PermissionRow(who, pattern, frozenset(actions.split(","))) for who, pattern, actions in rows]


def _lines() -> Select[str, str, str]:
    return select(Permissions.who, Permissions.pattern, Permissions.actions)
