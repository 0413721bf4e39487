"""A real PostgreSQL server on a free port: one for each process of tests, with a database for each use."""

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dualreg.catalog.database import Catalog
from dualreg.catalog.upgrade import upgrade
from tests.programs import free_port, require, running
from tests.quick import memory_folder

#: Where Debian puts programs that are not meant for everybody's PATH.
_DEBIAN = Path("/usr/lib/postgresql")
#: Kinds of databases, as parameters of a test.
DATABASES = [
    pytest.param("sqlite", marks=pytest.mark.sqlite),
    pytest.param("postgresql", marks=pytest.mark.postgres),
]


@dataclass(frozen=True)
class Cluster:
    """A data directory of PostgreSQL, and how to run a server over it."""

    folder: Path
    programs: Path
    as_postgres: Sequence[str]
    port: int

    def url(self, database: str = "postgres") -> str:
        """Return where SQLAlchemy finds a database."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def connect(self) -> "psycopg.Connection[Any]":
        """Open a connection, in which each statement is a transaction."""
        address = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"
        return psycopg.connect(address, autocommit=True)

    def execute(self, statement: str) -> None:
        """Execute a statement that may not be in a transaction, such as ``CREATE DATABASE``."""
        with closing(self.connect()) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def running(self, **settings: str | int) -> Iterator["subprocess.Popen[bytes]"]:
        """Run the server with *settings* for the block; it ends without waiting for its clients."""
        log = self.folder / "log"
        chosen = {"listen_addresses": "127.0.0.1", "fsync": "off"} | settings
        options = [f"--{name}={value}" for name, value in chosen.items()]
        options += ["-k", str(self.folder)]
        line = [self.programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), *options]
        with running([*self.as_postgres, *line], log, end=signal.SIGINT) as process:
            _wait_until_up(self.programs, self.port, process, log)
            yield process


@contextmanager
def postgresql_cluster() -> Iterator[Cluster]:
    """Make an empty data directory for the block; skip the test if PostgreSQL is not installed.

    Its default collation is English, so that a query which forgets to ask for byte order is found out.
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="dualreg-postgresql-", dir=memory_folder()))
    try:
        cluster = Cluster(folder, programs, _drop_root(folder), free_port())
        initdb = [programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "postgres", "-E", "UTF8"]
        collation = ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en", "--no-sync"]
        subprocess.run([*cluster.as_postgres, *initdb, *collation], check=True, capture_output=True, cwd="/")
        yield cluster
    finally:
        shutil.rmtree(folder)


@contextmanager
def postgresql_database(options: str = "") -> Iterator[str]:
    """Make an empty database for the block, with *options* of CREATE DATABASE; yield its SQLAlchemy URL.

    The test is skipped if PostgreSQL is not installed.
    """
    with _database(f"template0 {options}") as url:
        yield url


@contextmanager
def migrated_postgresql() -> Iterator[str]:
    """Make a database for the block that has the tables which the migrations make; yield its URL."""
    with _database(_migrated()) as url:
        yield url


@contextmanager
def database_of(kind: str) -> Iterator[str]:
    """Yield the URL of an empty database with tables for one of DATABASES; nothing for SQLite."""
    with migrated_postgresql() if kind == "postgresql" else nullcontext("") as url:
        yield url


@cache
def _server() -> Cluster:
    """Return the server of this process, which ends with it."""
    stack = ExitStack()
    atexit.register(stack.close)
    cluster = stack.enter_context(postgresql_cluster())
    stack.enter_context(cluster.running())
    return cluster


@cache
def _migrated() -> str:
    """Return the name of a database that is copied instead of running the migrations again."""
    name, server = "migrated", _server()
    server.execute(f"CREATE DATABASE {name}")
    with closing(Catalog(server.url(name))) as catalog:
        upgrade(catalog)
    return name


def migrated_server() -> tuple[int, str]:
    """Return the port of the server of this process, and the name of a database with tables, to be copied."""
    name = _migrated()
    return _server().port, name


_numbers = count()


def new_database() -> str:
    """Make a database as ``migrated_postgresql``, which ends with the server; return its URL."""
    name = f"kept{next(_numbers)}"
    _copy_database(_migrated(), name)
    return _server().url(name)


def _copy_database(template: str, name: str) -> None:
    """Make a database by copying files, in half of the time that it takes to log all pages."""
    _server().execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")


@contextmanager
def _database(template: str) -> Iterator[str]:
    name, server = f"test{next(_numbers)}", _server()
    _copy_database(template, name)
    try:
        yield server.url(name)
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _programs() -> Path:
    """Return the folder of the newest server's programs."""
    require("setpriv", package="util-linux")
    versions = sorted(_DEBIAN.glob("[0-9]*/bin"), key=lambda path: int(path.parent.name))
    if versions:
        return versions[-1]
    require("initdb", "postgres", "pg_isready", package="postgresql")
    return Path(str(shutil.which("initdb"))).resolve().parent


def _drop_root(folder: Path) -> list[str]:
    """Return what to put before the server's commands, since it refuses to run as root."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "postgres", "postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def _wait_until_up(programs: Path, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        ready = subprocess.run(
            [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], check=False
        )
        if ready.returncode == 0:
            return
        time.sleep(0.05)
    pytest.fail(f"PostgreSQL did not come up:\n{log.read_text()[-4000:]}")
