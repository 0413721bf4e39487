"""What spares tests the same work again and again, and waits for the disk: no test here cuts the power.

``install`` is called once for a test process, by ``tests/conftest.py``. Processes that tests start have none
of this but the template of the catalog, and the tests of the migrations do without it.
"""

import functools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache
from werkzeug.routing import Rule

from dualreg.auth import passwords
from dualreg.catalog import dialects, name_parts, postgresql, upgrade
from dualreg.catalog.database import Catalog
from tests import template
from tests.soak import SOAK

_FILE = "catalog.sqlite3"
_MEMORY = Path("/dev/shm")
#: Bytes that must be free in memory for files of tests to be there.
_ROOM = 4 << 30
_TRIGGERS = "SELECT name FROM sqlite_master WHERE type = 'trigger'"


@functools.cache
def memory_folder() -> Path | None:
    """Return a folder in memory, where files are made and removed ten times faster; None if there is no room.

    Soak tests write too much for it.
    """
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM
    return _MEMORY if roomy and not SOAK else None


@functools.cache
def migrated() -> bytes:
    """Return the file of an empty SQLite catalog, made by the migrations."""
    with tempfile.TemporaryDirectory(prefix="dualreg-template-") as folder, real_migrations():
        path = Path(folder) / _FILE
        catalog = Catalog(f"sqlite:///{path}")
        upgrade.upgrade(catalog)
        catalog.close()
        return path.read_bytes()


@functools.cache
def schema() -> list[str]:
    """Return the statements that make such a catalog, without the index of parts of names.

    The dump writes no virtual tables. Each upgrade makes the index, if it is missing.
    """
    with tempfile.TemporaryDirectory(prefix="dualreg-template-") as folder:
        path = Path(folder) / _FILE
        path.write_bytes(migrated())
        with closing(sqlite3.connect(path)) as connection:
            for (name,) in connection.execute(_TRIGGERS).fetchall():
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute(f"DROP TABLE IF EXISTS {name_parts.INDEX}")
            return [line for line in connection.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;")]


@contextmanager
def real_migrations() -> Iterator[None]:
    """Run Alembic itself for the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upgrade, "command", command)
        patch.setattr(upgrade, "ScriptDirectory", ScriptDirectory)
        yield


def install() -> None:
    """Save what this process would otherwise do for each test.

    SQLite catalogs are made from a template; a statement is compiled once for all engines, and the function
    that builds the URL of a route when it is first asked for; nothing waits for the disk.
    """
    template.install(schema)
    os.fsync = os.fdatasync = lambda _: None
    passwords.bcrypt = _Bcrypt  # type: ignore[assignment, misc]
    Rule._compile_builder = _compile_later  # type: ignore[assignment]
    for dialect in (SQLiteDialect_pysqlite, PGDialect_psycopg):
        dialect.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign]
        dialect.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign]
    dialects.create_engine = postgresql.create_engine = _create_engine


class _Bcrypt:
    """Hashes that are made and checked in a millisecond."""

    checkpw = staticmethod(lambda *given: bcrypt.checkpw(*given))  # noqa: PLW0108 -- tests replace it
    hashpw = staticmethod(bcrypt.hashpw)

    @staticmethod
    def gensalt(rounds: int) -> bytes:
        return bcrypt.gensalt(min(rounds, 4))


_compile_builder = Rule._compile_builder


def _compile_later(rule: Rule, append_unknown: bool = True) -> Callable[..., Any]:  # noqa: FBT001, FBT002 -- as it is
    @functools.cache
    def compiled() -> Callable[..., Any]:
        return _compile_builder(rule, append_unknown)

    def build(*values: Any, **named: Any) -> Any:
        return compiled()(*values, **named)

    return build


_statements: LRUCache[Any, Any] = LRUCache(2000)


def _create_engine(url: str | URL, **options: Any) -> Engine:
    """Return an engine that shares what is compiled with others, whose dialects are equal."""
    engine = create_engine(url, **options, execution_options={"compiled_cache": _statements})
    if engine.dialect.name == "sqlite":
        event.listen(engine, "first_connect", lambda *_: event.listen(engine, "connect", _hurry))
    return engine


def _hurry(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")
