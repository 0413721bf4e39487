"""The index of parts of names: which repositories have names that may contain a text, on SQLite.

``LIKE '%text%'`` looks at all names. The index has, of each name, every three characters in a row. It has no
names: what it finds is compared with the text as before. New repositories, which have the greatest IDs, are
added by the hundred, and looked at one by one until then. Triggers write what else happens to names. One for
new rows would have SQLite look at all uploads, which refer to repositories.

It is no part of the schema that revisions describe, since not every SQLite has FTS5 with its trigrams (3.34).
Each upgrade, and so each start, makes it if it is missing. Without it, all names are looked at.

Source: sqlite.org/fts5.html, "The Trigram Tokenizer", "Contentless Tables", "The Detail Option".
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import cache
from string import ascii_lowercase, digits

from sqlalchemy import ColumnElement, Connection, text

from dualreg.catalog.tables import Repositories
from dualreg.patterns import Reach, has_wildcard

#: The table, and what the names of its own tables and triggers begin with.
INDEX = "repository_parts"
_OPTIONS = "name, content = '', detail = none, tokenize = 'trigram case_sensitive 1'"
#: A space follows each name, so that its last two characters are in a row of three.
_END = " "
_REMOVE = (
    "INSERT INTO repository_parts (repository_parts, rowid, name) VALUES ('delete', old.id, old.name || ' ')"
)
_ADD = "INSERT INTO repository_parts (rowid, name) VALUES (new.id, new.name || ' ')"
#: ``docsize`` has a row for each repository in the index.
_IS_INDEXED = "EXISTS (SELECT 1 FROM repository_parts_docsize WHERE id = old.id)"
_TRIGGERS = {
    "repository_parts_delete": f"AFTER DELETE ON repositories WHEN {_IS_INDEXED} BEGIN {_REMOVE}; END",
    "repository_parts_update": "AFTER UPDATE OF name ON repositories "
    f"WHEN old.name <> new.name AND {_IS_INDEXED} BEGIN {_REMOVE}; {_ADD}; END",
}
_OBJECTS = text("SELECT name FROM sqlite_master WHERE name = 'repository_parts' OR tbl_name = 'repositories'")
#: The last repository that the index has, and the last one that there is.
_LASTS = text(
    "SELECT coalesce((SELECT max(id) FROM repository_parts_docsize), 0), "
    "coalesce((SELECT max(id) FROM repositories), 0)"
)
#: How many repositories the index should have, and how many it has.
_COUNTS = text(
    "SELECT (SELECT count(*) FROM repositories"
    " WHERE id <= (SELECT max(id) FROM repository_parts_docsize)), "
    "(SELECT count(*) FROM repository_parts_docsize)"
)
_CATCH_UP = text(
    "INSERT INTO repository_parts (rowid, name) SELECT id, name || ' ' FROM repositories"
    " WHERE id > coalesce((SELECT max(id) FROM repository_parts_docsize), 0)"
)
#: With OR, SQLite would rather look at all names.
_FOUND = text(
    "SELECT rowid FROM repository_parts WHERE repository_parts MATCH :parts "
    "UNION ALL SELECT id FROM repositories WHERE id > :indexed"
)
_SOME = text(
    "SELECT count(*) FROM (SELECT 1 FROM repository_parts WHERE repository_parts MATCH :parts LIMIT :limit)"
)
#: So many new repositories are added at once.
_BATCH = 256
#: Repositories of which the index need not find more: to look at names in order is no slower then.
_FEW = 30_000
#: So few that no other part of the text has to be asked for.
_ENOUGH = 500
#: Parts of a text that are asked for.
_ASKED = 16
_LENGTH = 3
#: What may come after two characters of a name.
_CHARACTERS = f"{ascii_lowercase}{digits}._-/{_END}"
_KNOWN = frozenset(_CHARACTERS)


@cache
def is_possible() -> bool:
    """Return whether the SQLite of this Python can have the index."""
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute(f"CREATE VIRTUAL TABLE {INDEX} USING fts5({_OPTIONS})")
        except sqlite3.OperationalError:
            return False
    return True


def settle(connection: Connection) -> None:
    """Make the index if it is missing or wrong, or remove what would write it if SQLite cannot have it."""
    if connection.dialect.name != "sqlite":
        return
    if not is_possible():
        _remove_triggers(connection)
        return
    if not is_whole(connection):
        remove(connection)
        connection.exec_driver_sql(f"CREATE VIRTUAL TABLE {INDEX} USING fts5({_OPTIONS})")
        for name, rule in _TRIGGERS.items():
            connection.exec_driver_sql(f"CREATE TRIGGER {name} {rule}")
    connection.execute(_CATCH_UP)


def note_created(connection: Connection, repository_id: int) -> None:
    """Add new repositories to the index, now and then."""
    if repository_id % _BATCH == 0 and _is_usable(connection):
        connection.execute(_CATCH_UP)


def remove(connection: Connection) -> None:
    """Remove the index, with what writes it, from an SQLite database whose SQLite can have it."""
    _remove_triggers(connection)
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {INDEX}")


def is_whole(connection: Connection) -> bool:
    """Return whether an SQLite database has the index, of all its repositories up to the last in it."""
    if not _is_written(connection):
        return False
    expected, indexed = connection.execute(_COUNTS).one()
    return bool(expected == indexed)


def flaws(connection: Connection) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the index, and what to do, if SQLite can have it."""
    if connection.dialect.name == "sqlite" and is_possible() and not is_whole(connection):
        yield INDEX, "the index of parts of names is missing or incomplete; run `dualreg db upgrade`"


def parts_within(reach: Reach) -> list[str]:
    """Return parts that the names of all repositories of *reach* have, as ``narrowed`` takes them."""
    single = (group[0] for group in reach.groups if len(group) == 1 and has_wildcard(group[0]))
    return parts_in(text for pattern in single for text in pattern.split("*"))


def parts_in(texts: Iterable[str]) -> list[str]:
    """Return parts that names have which contain all *texts*, as ``narrowed`` takes them."""
    # Names are in lower case, and LIKE of SQLite minds no case.
    return [*dict.fromkeys(part for each in texts for part in _parts(each.lower()))]


def narrowed(connection: Connection, parts: Sequence[str]) -> ColumnElement[bool] | None:
    """Return a condition of repositories, which holds for all whose names have all *parts*.

    It holds for thousands at most. None: there may be more, or there is no index.
    """
    if not (parts and _is_usable(connection)):
        return None
    indexed, last = connection.execute(_LASTS).one()
    rare = _rare(connection, parts[:_ASKED]) if last - indexed <= _FEW else None
    found = _FOUND.bindparams(parts=rare, indexed=indexed)
    return Repositories.id.in_(found) if rare else None


def _rare(connection: Connection, parts: Sequence[str]) -> str | None:
    """Return a query of the index that finds few repositories; None: there is none."""
    rare = list[str]()
    for part in parts:
        count = _count(connection, part)
        if count <= _ENOUGH:
            return part
        if count <= _FEW:
            rare.append(part)
    together = " AND ".join(rare or parts)
    return together if rare or _count(connection, together) <= _FEW else None


def _count(connection: Connection, query: str) -> int:
    """Return how many repositories a query of the index finds, but no more than one too many."""
    return connection.scalar(_SOME, {"parts": query, "limit": _FEW + 1}) or 0


def _parts(contained: str) -> Iterator[str]:
    """Yield queries of the index, each of which finds all names that contain a text."""
    for part in (contained[end - _LENGTH : end] for end in range(_LENGTH, len(contained) + 1)):
        if _KNOWN.issuperset(part):
            yield f'"{part}"'
    if len(contained) == _LENGTH - 1 and _KNOWN.issuperset(contained):
        yield "(" + " OR ".join(f'"{contained}{each}"' for each in _CHARACTERS) + ")"


def _is_usable(connection: Connection) -> bool:
    """Return whether there is an index that can be read and written; there is none on PostgreSQL."""
    return connection.dialect.name == "sqlite" and is_possible() and _is_written(connection)


def _is_written(connection: Connection) -> bool:
    """Return whether an SQLite database has an index, and all that writes it."""
    found = {*connection.scalars(_OBJECTS)}
    return found >= {INDEX, *_TRIGGERS}


def _remove_triggers(connection: Connection) -> None:
    for name in _TRIGGERS:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
