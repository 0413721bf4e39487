"""The databases of data directories on PostgreSQL, for tests that run on it.

Where SQLite would have the catalog in a directory, a file names the directory's database. A directory that is
copied, removed or restored so has a database that was, too. This holds in every process that tests start.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier, Literal
from sqlalchemy import URL, Engine

from dualreg.catalog import postgresql
from dualreg.settings import Settings

#: Whether registries of tests have databases of PostgreSQL.
ON_POSTGRESQL = os.environ.get("TEST_DATABASE") == "postgresql"
#: What the file is called in which SQLite has a catalog.
FILE = "catalog.sqlite3"
#: Variable of the environment: the port of the server, and its database that others are copied from.
SERVER = "TEST_POSTGRESQL"
#: What names of databases of directories begin with.
_PREFIX = "data_"
#: The directories whose databases this process has named.
_folders: dict[str, Path] = {}


def install() -> None:
    """Have a database of the server in SERVER for each data directory for which none is chosen.

    Processes that this one starts do so, too.
    """
    os.environ["PYTHONPATH"] = str(Path(__file__).with_name("startup"))
    Settings.database_url = property(_database_url)  # type: ignore[assignment, method-assign]
    postgresql.open_postgresql = _open


def _database_url(settings: Settings) -> str:
    return settings.database or url_of(settings.data.absolute())


def url_of(folder: Path) -> str:
    """Return the URL of a directory's database, which is made when it is opened."""
    name = _PREFIX + hashlib.sha256(bytes(folder)).hexdigest()[:24]
    _folders[name] = folder
    port = os.environ[SERVER].partition("/")[0]
    return f"postgresql+psycopg://postgres@127.0.0.1:{port}/{name}"


_open_postgresql = postgresql.open_postgresql


def _open(url: URL, **options: Any) -> Engine:
    if url.database in _folders:
        _prepare(url.database)
    return _open_postgresql(url, **options)


def _prepare(name: str) -> None:
    """Make the database of a directory, unless the directory names it.

    It is empty, or that of the directory which this one was copied from.
    """
    folder = _folders[name]
    note = folder / FILE
    if _content(note) == name:
        return
    folder.mkdir(parents=True, exist_ok=True)
    port, _, template = os.environ[SERVER].partition("/")
    address = f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
    with psycopg.connect(address, autocommit=True) as server:
        server.execute("SELECT pg_advisory_lock(1)")  # until the connection is closed
        if (origin := _content(note)) == name:
            return
        _remove_unused(server)
        _drop(server, name)
        create = SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        server.execute(create.format(Identifier(name), Identifier(origin or template)))
        server.execute(SQL("COMMENT ON DATABASE {} IS {}").format(Identifier(name), Literal(str(folder))))
        note.write_text(name)


def _content(note: Path) -> str:
    try:
        return note.read_text()
    except FileNotFoundError:
        return ""


def _remove_unused(server: "psycopg.Connection[Any]") -> None:
    """Drop the databases whose directories are gone."""
    query = "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database"
    for name, folder in server.execute(query).fetchall():
        if name.startswith(_PREFIX) and folder and _is_gone(Path(folder).parent):
            _drop(server, name)


def _is_gone(folder: Path) -> bool:
    try:
        folder.stat()
    except FileNotFoundError:
        return True
    except PermissionError:
        pass
    return False


def _drop(server: "psycopg.Connection[Any]", name: str) -> None:
    server.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
