"""SQL of permission rules."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, Select, delete, select, update

from dualreg.catalog.dialects import insert
from dualreg.catalog.rows import PermissionRow
from dualreg.catalog.tables import Permissions


@dataclass(frozen=True, slots=True)
class PermissionQueries:
    """The permission rules of the accounts mode; ``auth.permissions`` reads them."""

    connection: Connection

    def grant(self, rule: PermissionRow) -> PermissionRow:
        """Add a rule, or its actions to the existing rule; return the rule as it is now.

        Concurrent transactions wait for each other, and no action is lost.
        """
        row = insert(self.connection, Permissions).values(
            who=rule.who, pattern=rule.pattern, actions=_text(rule.actions)
        )
        # On conflict, the update changes nothing, but locks and returns the row; SELECT cannot lock it.
        known = row.on_conflict_do_update(
            index_elements=[Permissions.who, Permissions.pattern], set_={"actions": Permissions.actions}
        )
        actions = self.connection.execute(known.returning(Permissions.actions)).scalar_one()
        joined = replace(rule, actions=rule.actions | _actions(actions))
        self._write(joined)
        return joined

    def revoke(self, who: str, pattern: str, actions: Collection[str] | None) -> PermissionRow | None:
        """Remove *actions*, or all if None, from a rule; a rule without actions is deleted.

        Return the rule as it is now, or None if there was none.
        """
        query = select(Permissions.actions).where(_is(who, pattern))
        known = self.connection.scalar(query.with_for_update())
        if known is None:
            return None
        revoked = _actions(known) if actions is None else frozenset(actions)
        left = PermissionRow(who, pattern, _actions(known) - revoked)
        if left.actions:
            self._write(left)
        else:
            self.connection.execute(delete(Permissions).where(_is(who, pattern)))
        return left

    def of(self, names: Collection[str]) -> Sequence[PermissionRow]:
        """Return the rules whose *who* is one of *names*, ordered by *who* and pattern."""
        return self._read(_rules().where(Permissions.who.in_(names)))

    def list(self) -> Sequence[PermissionRow]:
        """Return all rules, ordered by *who* and pattern."""
        return self._read(_rules())

    def remove_all(self, who: str) -> int:
        """Delete all rules of *who*; return their number."""
        return self.connection.execute(delete(Permissions).where(Permissions.who == who)).rowcount

    def _write(self, rule: PermissionRow) -> None:
        found = _is(rule.who, rule.pattern)
        self.connection.execute(update(Permissions).where(found).values(actions=_text(rule.actions)))

    def _read(self, query: Select[str, str, str]) -> Sequence[PermissionRow]:
        rows = self.connection.execute(query.order_by(Permissions.who, Permissions.pattern))
        return [PermissionRow(who, pattern, _actions(actions)) for who, pattern, actions in rows]


def _rules() -> Select[str, str, str]:
    return select(Permissions.who, Permissions.pattern, Permissions.actions)


def _is(who: str, pattern: str) -> ColumnElement[bool]:
    return (Permissions.who == who) & (Permissions.pattern == pattern)


def _text(actions: Collection[str]) -> str:
    return ",".join(sorted(actions))


def _actions(text: str) -> frozenset[str]:
    return frozenset(text.split(","))
