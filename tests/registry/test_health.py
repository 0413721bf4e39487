"""Health: it writes and reads, and does so once in a while however often it is asked."""

import errno
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.notes import Note
from dualreg.image.names import UploadId
from dualreg.registry import Registry
from dualreg.registry import health as module
from dualreg.registry.health import Health
from dualreg.storage import parallel
from dualreg.storage.filesystem import FilesystemStore
from tests.programs import until


def test_health_writes_to_the_catalog(registry: Registry) -> None:
    """A row is written and read, and no staged bytes stay."""
    assert registry.health.failures() == {}
    with registry.state.catalog.read() as tx:
        assert tx.notes.read(Note.HEALTH)
    assert [*registry.state.store.staged()] == []


@pytest.mark.parametrize(("interval", "calls"), [(0.0, 5), (60.0, 1)])
def test_a_result_is_kept(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, interval: float, calls: int
) -> None:
    """Within the interval, probes get what the first one found, also that the disk is full."""
    health, seen = Health(registry.state, interval), list[UploadId]()

    def fail(upload: UploadId, *_: object, **__: object) -> int:
        seen.append(upload)
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(registry.state.store, "append", fail)
    assert {tuple(health.failures().items()) for _ in range(5)} == {(("storage", "OSError"),)}
    assert len(seen) == calls


def test_a_disk_that_keeps_nothing_has_failed(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes bytes, and fails when they are to be durable, which every push needs."""
    registry = build_registry(catalog, FilesystemStore(tmp_path / "store"))
    assert registry.health.failures() == {}

    def fail(*_: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(parallel, "sync", fail)
    assert registry.health.failures() == {"storage": "OSError"}
    assert [*registry.state.store.staged()] == []


def test_what_does_not_end_has_failed(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one probe waits for a catalog that does not answer, the others are told soon."""
    monkeypatch.setattr(module, "_SLOW", 0.1)
    health, hangs = Health(registry.state), Event()
    assert health.failures() == {}
    begin = registry.state.catalog.begin

    def hang(**options: bool) -> AbstractContextManager[Transaction]:
        hangs.wait(20)
        return begin(**options)

    monkeypatch.setattr(registry.state.catalog, "begin", hang)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(health.failures)
        try:
            assert until(lambda: health.failures() == {"catalog": "TimeoutError"}, 5)
        finally:
            hangs.set()
        assert waiting.result() == {}
    assert health.failures() == {}
