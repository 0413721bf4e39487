"""SQL of permission lines."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, Select, delete, select, update

from dualreg.catalog.dialects import insert
from dualreg.catalog.rows import PermissionRow
from dualreg.catalog.tables import Permissions


@dataclass(frozen=True, slots=True)
class PermissionQueries:
    """Who may do what with which repositories."""

    connection: Connection

    def put(self, line: PermissionRow) -> PermissionRow:
        """Record a line, or add its actions to the one that is there; return it as it is now.

        Of transactions that do so at once, the later waits for the earlier, and adds to what that left.
        """
        row = insert(self.connection, Permissions).values(
            who=line.who, pattern=line.pattern, actions=_text(line.actions)
        )
        # A conflict changes nothing, but locks the row and returns it: no SELECT can lock one that is new.
        known = row.on_conflict_do_update(
            index_elements=[Permissions.who, Permissions.pattern], set_={"actions": Permissions.actions}
        )
        actions = self.connection.execute(known.returning(Permissions.actions)).scalar_one()
        joined = replace(line, actions=line.actions | _actions(actions))
        self._write(joined)
        return joined

    def take(self, who: str, pattern: str, actions: Collection[str] | None) -> PermissionRow | None:
        """Take actions, or all, from a line, which goes with its last one; return it as it is now.

        None if there was none.
        """
        query = select(Permissions.actions).where(_is(who, pattern))
        known = self.connection.scalar(query.with_for_update())
        if known is None:
            return None
        gone = _actions(known) if actions is None else frozenset(actions)
        left = PermissionRow(who, pattern, _actions(known) - gone)
        if left.actions:
            self._write(left)
        else:
            self.connection.execute(delete(Permissions).where(_is(who, pattern)))
        return left

    def of(self, names: Collection[str]) -> Sequence[PermissionRow]:
        """Return the lines whose *who* is one of *names*."""
        return self._read(_lines().where(Permissions.who.in_(names)))

    def list(self) -> Sequence[PermissionRow]:
        """Return every line."""
        return self._read(_lines())

    def remove_all(self, who: str) -> int:
        """Forget every line of *who*; return how many there were."""
        return self.connection.execute(delete(Permissions).where(Permissions.who == who)).rowcount

    def _write(self, line: PermissionRow) -> None:
        here = _is(line.who, line.pattern)
        self.connection.execute(update(Permissions).where(here).values(actions=_text(line.actions)))

    def _read(self, query: Select[str, str, str]) -> Sequence[PermissionRow]:
        rows = self.connection.execute(query.order_by(Permissions.who, Permissions.pattern))
        return [PermissionRow(who, pattern, _actions(actions)) for who, pattern, actions in rows]


def _lines() -> Select[str, str, str]:
    return select(Permissions.who, Permissions.pattern, Permissions.actions)


def _is(who: str, pattern: str) -> ColumnElement[bool]:
    return (Permissions.who == who) & (Permissions.pattern == pattern)


def _text(actions: Collection[str]) -> str:
    return ",".join(sorted(actions))


def _actions(text: str) -> frozenset[str]:
    return frozenset(text.split(","))
