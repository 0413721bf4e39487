"""Notes that are written a little later are written once, and never after their registry is closed."""

import logging
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.activity import WriteBehind
from dualreg.settings import Settings
from dualreg.storage.memory import MemoryStore
from tests import builders
from tests.databases import database_in
from tests.properties.registries import push_v2

SOON, NEVER = timedelta(seconds=0.05), timedelta(days=1)
NAME, TAG = RepositoryName("a"), Tag("1")


def _timers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if isinstance(each, threading.Timer) and each.is_alive()]


def test_notes_are_written_together() -> None:
    """After the delay, in one write; the next note starts anew."""
    written: list[Mapping[str, int]] = []
    notes = WriteBehind[str, int](written.append, SOON)
    for key in ("a", "b", "a"):
        notes.update(key, lambda known: (known or 0) + 1)
    while not written:
        time.sleep(0.01)
    notes.update("c", lambda _: 1)
    notes.close()
    assert written == [{"a": 2, "b": 1}, {"c": 1}]


def test_closing_writes_for_the_last_time() -> None:
    """What is noted after that is dropped, and no thread waits any longer."""
    written: list[Mapping[str, int]] = []
    notes = WriteBehind[str, int](written.append, NEVER)
    notes.update("a", lambda _: 1)
    assert _timers()
    notes.close()
    notes.update("b", lambda _: 1)
    notes.flush()
    notes.close()
    for each in _timers():
        each.join(5)
    assert not _timers()
    assert written == [{"a": 1}]


def test_closing_waits_for_a_write_that_has_begun() -> None:
    """Its database may be closed right after."""
    begun, go_on, written = threading.Event(), threading.Event(), list[Mapping[str, int]]()

    def write(notes: Mapping[str, int]) -> None:
        begun.set()
        assert go_on.wait(10)
        written.append(notes)

    notes = WriteBehind[str, int](write, SOON)
    notes.update("a", lambda _: 1)
    assert begun.wait(10)
    threading.Timer(0.1, go_on.set).start()
    notes.close()
    assert written == [{"a": 1}]


def test_a_registry_that_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its pulls and clients are in the catalog, and it leaves no timer behind."""
    url = database_in(tmp_path)
    registry = build_registry(Catalog(url), MemoryStore(), Settings(), write_delay=SOON * 4)
    push_v2(registry, NAME, TAG, builders.image(builders.layer({"a": b"1"})))
    registry.tags.pulls.record(NAME, TAG)
    registry.clients.record("10.0.0.7", "docker/1.5.0", "a", refused=False)
    registry.close()
    again = build_registry(Catalog(url), MemoryStore())
    assert again.tags.describe(NAME, limit=1).rows[0].pulled_at
    assert len(again.clients.list(again.now() - timedelta(hours=1))) == 1
    again.close()
    (tmp_path / "catalog.sqlite3").unlink()
    time.sleep(0.3)
    assert not caplog.records


def test_a_catalog_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The notes are lost, which is logged, and the registry is closed."""
    registry = build_registry(Catalog(f"sqlite:///{tmp_path}/no/where"), MemoryStore(), write_delay=NEVER)
    registry.clients.record("10.0.0.7", "docker/1.5.0", "a", refused=False)
    registry.close()
    assert [(each.levelno, each.message) for each in caplog.records] == [
        (
            logging.WARNING,
            "cannot write what was pulled and used, and by whom: catalog error: no such table: v1_clients",
        )
    ]
