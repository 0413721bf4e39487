"""SQL of what operators have set by commands, as a whole: for its copy in the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, select

from dualreg.catalog.columns import UtcDateTime
from dualreg.catalog.policies import PolicyQueries
from dualreg.catalog.tables import (
    Accounts,
    AccountSubjects,
    ClaimedGroups,
    GroupMembers,
    ImmutableTags,
    Permissions,
    Quotas,
    RetentionRules,
    Secrets,
    SigningKeys,
    Switches,
    Table,
    Webhooks,
)

#: The rules by which operators forbid changes; former versions had none of them.
POLICIES: tuple[type[Table], ...] = (ImmutableTags, Quotas)
#: What is known of people who log in by an issuer.
_EXTERNAL: tuple[type[Table], ...] = (AccountSubjects, ClaimedGroups)
#: The tables that contain it.
TABLES: tuple[type[Table], ...] = (
    Accounts,
    GroupMembers,
    *_EXTERNAL,
    Permissions,
    Secrets,
    *POLICIES,
    RetentionRules,
    Webhooks,
    Switches,
    SigningKeys,
)
#: Those that copies of former versions do not have.
_NEW = (*_EXTERNAL, *POLICIES, RetentionRules, Webhooks, Switches)
#: The names of these tables.
NAMES = frozenset(table.__tablename__ for table in TABLES)

#: Rows by table; values are texts, truth values or None.
Dump = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class AccessQueries:
    """Accounts, groups, rules, policies, keys, tokens, webhooks, switches and signing keys, all at once."""

    connection: Connection
    now: datetime

    def dump(self) -> Dump:
        """Return all of it, in a fixed order."""
        return {table.__tablename__: self._rows(table) for table in TABLES}

    def is_empty(self) -> bool:
        """Return whether there is none of it but signing keys, which are made when they are missing."""
        found = (self.connection.scalar(select(exists(select(table)))) for table in TABLES[:-1])
        return not any(found)

    def restore(self, dump: Dump) -> None:
        """Record a dump, in place of what there is.

        Raises:
            KeyError, ValueError, TypeError, AttributeError: it is no dump.
        """
        PolicyQueries(self.connection, self.now).change()
        for table in TABLES:
            self.connection.execute(delete(table))
            named = table.__tablename__
            given = dump.get(named, ()) if table in _NEW else dump[named]
            if rows := [_from_text(table, row) for row in given]:
                self.connection.execute(insert(table), rows)

    def _rows(self, table: type[Table]) -> Sequence[Mapping[str, Any]]:
        query = select(table.__table__).order_by(*table.__table__.primary_key)
        return [
            {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
            for row in self.connection.execute(query).mappings()
        ]


def _from_text(table: type[Table], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a row; columns that a former version did not have get their defaults."""
    columns = table.__table__.columns
    return {
        column.name: datetime.fromisoformat(value)
        if isinstance(column.type, UtcDateTime) and (value := row[column.name])
        else row[column.name]
        for column in columns
        if column.name in row
    }
