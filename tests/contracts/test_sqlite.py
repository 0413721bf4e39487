"""The catalog over SQLite keeps the contract, and what is more: the errors of its locks."""

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import CursorResult, text
from sqlalchemy.exc import DatabaseError

from dualreg.catalog.database import Catalog, is_outage
from dualreg.catalog.upgrade import upgrade
from tests.contracts.catalog import CatalogContract


class TestSqlite(CatalogContract):
    """The contract, over the file that the shared ``catalog`` fixture makes."""


def _garble(file: Path) -> None:
    """Overwrite the header of a database whose log is empty."""
    with sqlite3.connect(file) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    with file.open("r+b") as opened:
        opened.write(b"garbage" * 20)


def _take_log(file: Path) -> None:
    """Put a folder in the place of the files beside the database."""
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink()
        file.with_name(file.name + suffix).mkdir()


@pytest.mark.parametrize(("damage", "opened"), [(_garble, True), (_take_log, False)])
def test_a_database_that_cannot_be_locked(
    tmp_path: Path, damage: Callable[[Path], None], *, opened: bool
) -> None:
    """That is an outage, and found out at once: it is no lock that another process holds."""
    file = tmp_path / "catalog.sqlite3"
    catalog = Catalog(f"sqlite:///{file}")
    upgrade(catalog)
    with catalog.begin():
        pass
    if not opened:
        catalog.close()
        file.with_name(f"{file.name}-wal").touch()
        file.with_name(f"{file.name}-shm").touch()
    damage(file)
    began = time.monotonic()
    with pytest.raises(DatabaseError) as failed, catalog.begin():
        pass
    assert is_outage(failed.value)
    assert time.monotonic() - began < 1
    catalog.close()


def test_transactions_share_a_connection(tmp_path: Path) -> None:
    """Until one fails. Those that only read still wait for locks within a statement, for up to 30 seconds."""
    catalog = Catalog(f"sqlite:///{tmp_path / 'catalog.sqlite3'}")
    upgrade(catalog)
    used = list[Any]()

    def write(*, fails: bool = False) -> None:
        with catalog.begin() as tx:
            used.append(tx.connection.connection.driver_connection)
            if fails:
                raise KeyError

    write()
    write()
    with catalog.read() as tx:
        connection = tx.connection.connection.driver_connection
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (30_000,)
    with pytest.raises(KeyError):
        write(fails=True)
    write()
    write()
    catalog.close()
    write()
    catalog.close()
    assert used[0] is used[1] is used[2]
    assert used[3] is used[4]
    assert len({*map(id, used)}) == 3
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        used[2].execute("SELECT 1")


def test_a_failed_transaction_holds_no_lock(tmp_path: Path) -> None:
    """Not while its error is handled either, which may lead to a result that was not read to its end."""
    file = tmp_path / "catalog.sqlite3"
    catalog = Catalog(f"sqlite:///{file}")
    upgrade(catalog)
    unread = list[CursorResult[Any]]()

    def fail() -> None:
        with catalog.begin() as tx:
            unread.append(tx.connection.execute(text("SELECT name FROM sqlite_master")))
            raise KeyError(unread[0].fetchone())

    with pytest.raises(KeyError):
        fail()
    with sqlite3.connect(file, timeout=0) as other:
        other.execute("BEGIN IMMEDIATE")
    other.close()
    unread[0].close()
    catalog.close()


@pytest.mark.parametrize("pool_size", [1, 2, 8])
def test_connections_of_readers_are_left_to_others(tmp_path: Path, pool_size: int) -> None:
    """To one who waits for a connection to read, and to one who does not only read."""
    catalog = Catalog(f"sqlite:///{tmp_path / 'catalog.sqlite3'}", pool_size=pool_size)
    upgrade(catalog)
    with catalog.begin():
        pass

    def read() -> float:
        began = time.monotonic()
        with catalog.read():
            return time.monotonic() - began

    with ThreadPoolExecutor(1) as pool:
        with ExitStack() as stack:
            for _ in range(2 * pool_size - 1):  # the writer has one
                stack.enter_context(catalog.read())
            waits = pool.submit(read)
            time.sleep(0.1)
        assert waits.result(20) < 10
    began = time.monotonic()
    with catalog.trial() as trial, trial.read():
        pass
    assert time.monotonic() - began < 10
    catalog.close()


@pytest.mark.parametrize(("few", "kept"), [(False, 16 << 10), (True, 2 << 10)])
def test_pages_that_are_kept(tmp_path: Path, *, few: bool, kept: int) -> None:
    """Those who read can do with few; who writes keeps all that a large transaction changes."""
    with closing(Catalog(f"sqlite:///{tmp_path / 'catalog.sqlite3'}", few_pages=few)) as catalog:
        upgrade(catalog)
        with catalog.read() as tx:
            assert tx.connection.scalar(text("PRAGMA cache_size")) == -kept
        with catalog.begin() as tx:
            assert tx.connection.scalar(text("PRAGMA cache_size")) == -(16 << 10)
