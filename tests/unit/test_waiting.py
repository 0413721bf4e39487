"""Waiting for the write lock of the database."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import SQLAlchemyError

from dualreg.catalog import waiting
from dualreg.catalog.database import Catalog
from dualreg.catalog.notes import Note
from dualreg.catalog.upgrade import upgrade


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalog."""
    with closing(Catalog(f"sqlite:///{tmp_path / 'catalog.sqlite3'}")) as catalog:
        upgrade(catalog)
        yield catalog


def _write(catalog: Catalog) -> float:
    with catalog.begin() as tx:
        tx.notes.write(Note.HEALTH, "1")
    return time.monotonic()


def test_the_next_thread_goes_on_at_once(catalog: Catalog) -> None:
    """It does not sleep, as SQLite would: twenty in a row, of which each would sleep for a millisecond."""
    go, order = threading.Barrier(6), list[int]()

    def work(number: int) -> None:
        go.wait()
        for _ in range(20):
            with catalog.begin() as tx:
                order.append(number)
                tx.notes.write(Note.HEALTH, str(number))
                assert order[-1] == number

    with ThreadPoolExecutor(6) as pool:
        [*pool.map(work, range(6))]
    assert sorted(order) == sorted([*range(6)] * 20)


def test_a_lock_of_another_process_is_taken_soon(catalog: Catalog, tmp_path: Path) -> None:
    """Within milliseconds of its release, however long it was held."""
    with (
        closing(sqlite3.connect(tmp_path / "catalog.sqlite3", isolation_level=None)) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        waits = list[float]()
        for _ in range(5):
            other.execute("BEGIN IMMEDIATE")
            writing = pool.submit(_write, catalog)
            time.sleep(0.2)
            assert not writing.done()
            other.execute("ROLLBACK")
            released = time.monotonic()
            waits.append(writing.result(20) - released)
    assert min(waits) < 0.02


def test_a_turn_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread does not wait for another one without end."""
    monkeypatch.setattr(waiting, "PATIENCE", 0.05)
    writers = waiting.Writers(4, alone=True)
    with writers.turn(), pytest.raises(SQLAlchemyError, match="too long"), writers.turn():
        pass
    with writers.turn():
        pass
    shared = waiting.Writers(4)
    with shared.turn(), shared.turn():
        pass
