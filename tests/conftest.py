"""Fixtures: a registry over a real catalog and a store in memory.

Both are guarded against bytes moving inside a transaction.
"""

import gc
import os
import sys
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest
from flask import Flask
from flask.testing import FlaskClient

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog, Transaction, Undo
from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.registry import Registry, v1_mode
from dualreg.storage.memory import MemoryStore
from tests import databases, quick
from tests.apps import application
from tests.databases import empty_database, empty_file

quick.install()
databases.install()


def pytest_configure() -> None:
    """Have the folders of tests in memory, and modules compiled once for hundreds of processes."""
    if folder := quick.memory_folder():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among the tests: they are there to the end, and looking takes half of the time.

    Later, look for it seldom: to look as often as usual takes a quarter of the time of tests of the web.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(20_000, 50, 20)


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Mark what needs radosgw as slow: it takes half a minute to start, for each process of the tests."""
    for item in items:
        if item.get_closest_marker("s3"):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Have more processes than processors: tests wait for servers and clocks half of their time."""
    return 2 * len(os.sched_getaffinity(0))


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        """Start at an instant that no test depends on."""
        self.instant = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return this instant."""
        return self.instant

    def advance(self, duration: timedelta) -> None:
        """Let *duration* pass."""
        self.instant += duration


_transactions = threading.local()


class GuardedCatalog(Catalog):
    """A catalog that knows whether this thread is inside a transaction."""

    @contextmanager
    def begin(self, *, durable: bool = True, undo: Undo | None = None) -> Iterator[Transaction]:
        """Count this thread in."""
        _transactions.depth = getattr(_transactions, "depth", 0) + 1
        try:
            with super().begin(durable=durable, undo=undo) as tx:
                yield tx
        finally:
            _transactions.depth -= 1


class GuardedStore(MemoryStore):
    """A store that refuses to move bytes while this thread holds a transaction open."""

    def append(self, upload: UploadId, chunks: Iterable[bytes], *, offset: int) -> int:
        """Refuse inside a transaction."""
        _refuse_inside_transaction("append")
        return super().append(upload, chunks, offset=offset)

    def open(self, digest: Digest, *, start: int = 0, length: int | None = None) -> BinaryIO:
        """Refuse inside a transaction."""
        _refuse_inside_transaction("open")
        return super().open(digest, start=start, length=length)

    def reopen(self, upload: UploadId) -> BinaryIO:
        """Refuse inside a transaction."""
        _refuse_inside_transaction("reopen")
        return super().reopen(upload)

    def fill(self, other: MemoryStore) -> None:
        """Hold what *other* holds."""
        for name in ("_blobs", "_staged", "_links"):
            setattr(self, name, {**vars(other)[name]})


def _refuse_inside_transaction(operation: str) -> None:
    assert not getattr(_transactions, "depth", 0), f"{operation} inside a transaction"


@pytest.fixture
def lasting_v1_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the switch of V1 looked at once, however slow the machine is: each look is a statement."""
    monkeypatch.setattr(v1_mode, "FRESH", 3600.0)


@pytest.fixture
def clock() -> Clock:
    """A movable clock, that of the catalog."""
    return Clock()


@pytest.fixture
def catalog(tmp_path: Path, clock: Clock) -> Iterator[Catalog]:
    """An empty catalog, made by the migrations."""
    with empty_database(tmp_path) as url, closing(GuardedCatalog(url, now=clock)) as catalog:
        yield catalog


@pytest.fixture
def sqlite_catalog(tmp_path: Path, clock: Clock) -> Iterator[Catalog]:
    """The same in a file, whatever other tests have: for what only SQLite does."""
    with closing(GuardedCatalog(empty_file(tmp_path), now=clock)) as catalog:
        yield catalog


@pytest.fixture
def store() -> GuardedStore:
    """An empty store in memory."""
    return GuardedStore()


@pytest.fixture
def registry(catalog: Catalog, store: GuardedStore) -> Registry:
    """A registry over both."""
    return build_registry(catalog, store)


@pytest.fixture
def app(registry: Registry) -> Flask:
    """The WSGI application of that registry."""
    return application(registry)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """An HTTP client of that application, in process."""
    return app.test_client()
