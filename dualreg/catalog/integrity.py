"""Integrity of the file of an SQLite catalog, without which nothing else can be read from it."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from dualreg.catalog.dialects import parse_url

#: Bytes of the largest file that is read through at every start, which takes about a second.
_READ_LIMIT = 512 << 20
#: What a file of SQLite begins with.  Source: sqlite.org/fileformat2.html, "The Database Header".
_MAGIC = b"SQLite format 3\0"


def find_damage(url: str, *, whole: bool = False) -> str | None:
    """Return in one line what is wrong with an SQLite database; None: nothing, or it is another database.

    Its pages are checked, but not the indexes against the tables (``PRAGMA quick_check``). A large file is
    only compared with the length that it says it has.

    Args:
        whole: Check everything, however long it takes: a file that was copied while it was in use may have
            pages of different instants.

    Raises:
        OSError: it cannot be read.
        CatalogUnreachable: the URL is invalid.
    """
    path = file_of(url)
    if path is None or not path.exists() or not path.stat().st_size:
        return None
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return "the file is not a database"
    try:
        with closing(sqlite3.connect(f"file:{path.absolute()}?mode=rw", uri=True)) as connection:
            pages, size = (
                connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size")
            )
            if path.stat().st_size > _READ_LIMIT and not whole:
                return _cut(path, pages * size)
            check = "integrity_check" if whole else "quick_check"
            ((first, *_),) = connection.execute(f"PRAGMA {check}(1)").fetchall()
    except sqlite3.OperationalError:
        return None  # it is locked, or may not be read: what uses it will say so
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if first == "ok" else str(first).replace("\n", " ")


def move_aside(url: str) -> Path:
    """Rename the file of an SQLite database, with what belongs to it; return its new name.

    Raises:
        OSError: it cannot be renamed.
    """
    path = file_of(url)
    assert path is not None  # noqa: S101 -- only a file can be found damaged
    aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(f"{path.name}{suffix}")
        if part.exists():
            part.rename(f"{aside}{suffix}")
    return aside


def file_of(url: str) -> Path | None:
    """Return the file of an SQLite database; None if it is in memory, or another database.

    Raises:
        CatalogUnreachable: the URL is invalid.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return None
    return Path(parsed.database)


def _cut(path: Path, expected: int) -> str | None:
    """Return what is wrong with the length of a file: pages that are in the log only need not be in it."""
    if path.stat().st_size >= expected or path.with_name(f"{path.name}-wal").exists():
        return None
    return f"the file has {path.stat().st_size} bytes of {expected}"
