"""The schema of a database, compared with ``catalog.tables``, which it has after all migrations."""

from collections.abc import Iterator, Sequence
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Inspector, func, inspect, select, text

from dualreg.catalog import name_parts
from dualreg.catalog.tables import Table

#: PostgreSQL's indexes that a failed CREATE INDEX CONCURRENTLY left, and constraints that were not checked.
#: Source: PostgreSQL, "pg_index" and "pg_constraint".
_INVALID = text(
    "SELECT c.relname, 'the index is not valid' FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " WHERE NOT (i.indisvalid AND i.indisready) AND c.relnamespace = current_schema()::regnamespace"
    " UNION ALL SELECT conname, 'the constraint is not validated' FROM pg_constraint"
    " WHERE NOT convalidated AND connamespace = current_schema()::regnamespace ORDER BY 1"
)
#: Databases whose text indexes were sorted by other rules than those of the operating system now.
#: Source: PostgreSQL 15, "ALTER DATABASE", REFRESH COLLATION VERSION.
_COLLATION = text(
    "SELECT datname FROM pg_database WHERE datname = current_database()"
    " AND datcollversion <> pg_database_collation_actual_version(oid)"
)
_HAS_COLLATION_VERSIONS = (15,)
_REINDEX = (
    "the operating system orders text by other rules than when the indexes were made; run REINDEX DATABASE, "
    "and ALTER DATABASE with REFRESH COLLATION VERSION"
)
#: The last number that a counter gave; NULL: none yet.
_LAST_NUMBER = text("SELECT pg_sequence_last_value(pg_get_serial_sequence(:table, :column)::regclass)")


def differences(connection: Connection) -> Iterator[tuple[str, str]]:
    """Yield what a database lacks, or has otherwise than ``catalog.tables``, and how.

    Tables, columns with their types, indexes, also that of parts of names, and the names and rules of keys.
    Other tables in the same database are not ours, and are left out.
    """
    options = {"compare_type": True, "include_object": _is_ours}
    context = MigrationContext.configure(connection, opts=options)
    for each in compare_metadata(context, Table.metadata):
        yield _describe(each[0] if isinstance(each, list) else each)
    inspector = inspect(connection)
    for name in {*inspector.get_table_names()} & Table.metadata.tables.keys():
        yield from _key_differences(inspector, name)
    yield from name_parts.flaws(connection)


def broken_keys(connection: Connection) -> Iterator[tuple[str, str]]:
    """Yield tables whose rows refer to missing ones, which SQLite only prevents where it is asked to."""
    if connection.dialect.name != "sqlite":
        return
    counts = dict[tuple[str, str], int]()
    for table, _, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        counts[table, parent] = counts.get((table, parent), 0) + 1
    for (table, parent), count in counts.items():
        yield table, f"{count} rows refer to rows of {parent} that do not exist"


def invalid_objects(connection: Connection) -> Iterator[tuple[str, str]]:
    """Yield the indexes and constraints that PostgreSQL has, but does not rely on, each with the reason."""
    if connection.dialect.name != "postgresql":
        return
    yield from ((name, reason) for name, reason in connection.execute(_INVALID))
    if (connection.dialect.server_version_info or ()) >= _HAS_COLLATION_VERSIONS:
        yield from ((name, _REINDEX) for name in connection.scalars(_COLLATION))


def low_counters(connection: Connection) -> Iterator[tuple[str, str]]:
    """Yield the counters of PostgreSQL that would number a new row as an existing one."""
    if connection.dialect.name != "postgresql":
        return
    for table in Table.metadata.sorted_tables:
        for column in (each for each in table.columns if each.identity is not None):
            last = connection.scalar(_LAST_NUMBER, {"table": table.name, "column": column.name}) or 0
            highest = connection.scalar(select(func.max(column))) or 0
            if last < highest:
                yield f"{table.name}.{column.name}", f"the next number is {last + 1}; {highest} exists"


def _is_ours(_: object, name: str | None, kind: str, reflected: bool, __: object) -> bool:  # noqa: FBT001 -- Alembic's
    return kind != "table" or not reflected or name in Table.metadata.tables


def _describe(difference: Sequence[Any]) -> tuple[str, str]:
    """Return what differs, and how, of a difference of Alembic's.

    Source: Alembic, ``autogenerate.compare_metadata``: the operation that would remove the difference, and
    what it is applied to: a table, an index or a constraint; or schema, table and column.
    """
    operation, *of = difference
    verb, _, kind = operation.partition("_")
    if verb == "modify":
        return f"{of[1]}.{of[2]}", f"the {kind} is {of[4]!r}, expected {of[5]!r}"
    name = f"{of[1]}.{of[2].name}" if kind == "column" else of[0].name
    return name, f"the {kind} is {'missing' if verb == 'add' else 'unexpected'}"


def _key_differences(inspector: Inspector, name: str) -> Iterator[tuple[str, str]]:
    """Yield differences of keys in what Alembic does not compare: names, and what a deletion does."""
    table = Table.metadata.tables[name]
    wanted = {str(key.name): str(key.ondelete) for key in table.foreign_key_constraints}
    wanted[str(table.primary_key.name)] = ""
    found = {
        str(key["name"]): str(key["options"].get("ondelete")) for key in inspector.get_foreign_keys(name)
    }
    # SQLite cannot name the key of a table whose numbers it never uses again.
    found[str(inspector.get_pk_constraint(name)["name"] or f"pk_{name}")] = ""
    for key in sorted(found.keys() ^ wanted.keys()):
        yield key, f"the key is {'missing' if key in wanted else 'unexpected'}"
    for key in sorted(found.keys() & wanted.keys()):
        if found[key] != wanted[key]:
            yield key, f"the rule for deletions is {found[key]}, expected {wanted[key]}"
