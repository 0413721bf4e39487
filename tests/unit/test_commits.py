"""Commits of SQLite: shared waits, and what happens if the disk fails."""

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from dualreg.catalog.commits import CommitUncertain, commits_of
from dualreg.catalog.database import Catalog, is_outage
from dualreg.catalog.notes import Note
from dualreg.catalog.upgrade import upgrade


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalog."""
    with closing(Catalog(f"sqlite:///{tmp_path / 'catalog.sqlite3'}")) as catalog:
        upgrade(catalog)
        yield catalog


def _write(catalog: Catalog, text: str) -> None:
    with catalog.begin() as tx:
        tx.notes.write(Note.HEALTH, text)


def _read(catalog: Catalog) -> str | None:
    with catalog.read() as tx:
        return tx.notes.read(Note.HEALTH)


class _Disk:
    """Counts and delays syncs of the log, and fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced, self.error = 0, 0
        self.begun, self.go = threading.Semaphore(0), threading.Event()
        self.go.set()
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def _sync(self, descriptor: int) -> None:
        assert Path(f"/proc/self/fd/{descriptor}").readlink().name == "catalog.sqlite3-wal"
        self.begun.release()
        assert self.go.wait(20)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        self.synced += 1


@pytest.fixture
def disk(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> _Disk:
    """The disk of the catalog."""
    del catalog
    return _Disk(monkeypatch)


def test_commits_share_a_wait(catalog: Catalog, disk: _Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that end while the disk is busy wait for one sync, which begins after them; none waits for less."""
    committed, settle = threading.Semaphore(0), catalog.settle

    def count() -> None:
        committed.release()
        settle()

    monkeypatch.setattr(catalog, "settle", count)
    disk.go.clear()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(_write, catalog, "first")
        assert disk.begun.acquire(timeout=20)
        others = [pool.submit(_write, catalog, f"{number}") for number in range(4)]
        for _ in range(5):
            assert committed.acquire(timeout=20)
        time.sleep(0.1)  # all of them wait
        assert not any(each.done() for each in (first, *others))
        disk.go.set()
        for each in (first, *others):
            each.result(20)
    assert disk.synced == 2


def test_a_commit_that_need_not_last_waits_for_nothing(catalog: Catalog, disk: _Disk) -> None:
    """The next one that waits makes it durable, too."""
    with catalog.begin(durable=False) as tx:
        tx.notes.write(Note.HEALTH, "1")
    assert disk.synced == 0
    catalog.settle()
    assert disk.synced == 1


def test_what_need_not_last_is_made_durable_at_its_end(catalog: Catalog, disk: _Disk) -> None:
    """A rebuild waits once."""
    catalog.hasten()
    for text in "12":
        _write(catalog, text)
    assert disk.synced == 0
    catalog.settle()
    assert disk.synced == 1


def test_a_disk_that_fails(catalog: Catalog, disk: _Disk) -> None:
    """The commit is uncertain. Until the log was written again, and synced, no other begins."""
    _write(catalog, "before")
    disk.error = errno.EIO
    with pytest.raises(CommitUncertain, match="Input/output error") as failed:
        _write(catalog, "uncertain")
    assert is_outage(failed.value)
    with pytest.raises(CommitUncertain):
        _write(catalog, "refused")
    assert _read(catalog) == "uncertain"
    disk.error = 0
    _write(catalog, "after")
    assert _read(catalog) == "after"


def test_the_log_is_written_again(
    catalog: Catalog, tmp_path: Path, disk: _Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte of it, as it is, and nobody else writes meanwhile."""
    _write(catalog, "before")
    disk.error = errno.EIO
    with pytest.raises(CommitUncertain):
        _write(catalog, "uncertain")
    disk.error = 0
    log, write, written = tmp_path / "catalog.sqlite3-wal", os.pwrite, bytearray()
    content = log.read_bytes()

    def record(descriptor: int, data: bytes, offset: int) -> int:
        with (
            closing(sqlite3.connect(tmp_path / "catalog.sqlite3", timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("BEGIN IMMEDIATE")
        written[offset:] = data
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", record)
    catalog.settle()
    assert bytes(written) == content == log.read_bytes()
    assert disk.synced == 2


def test_another_log(catalog: Catalog, tmp_path: Path, disk: _Disk) -> None:
    """The last connection copies the log to the database, and removes it; the next one makes another."""
    _write(catalog, "1")
    catalog.close()
    assert not (tmp_path / "catalog.sqlite3-wal").exists()
    catalog.settle()
    assert disk.synced == 1
    _write(catalog, "2")
    assert disk.synced == 2


def test_other_databases_make_commits_durable_themselves() -> None:
    """There is nothing to wait for."""
    commits = commits_of(None)
    commits.settle()
    commits.require()
    commits.close()


@pytest.mark.parametrize("relative", [False, True])
def test_a_database_behind_a_link(
    tmp_path: Path, disk: _Disk, monkeypatch: pytest.MonkeyPatch, *, relative: bool
) -> None:
    """SQLite keeps the log beside the file, and not beside the link."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "links").mkdir()
    link = tmp_path / "links/linked.sqlite3"
    link.symlink_to(Path("../catalog.sqlite3") if relative else tmp_path / "catalog.sqlite3")
    with closing(Catalog(f"sqlite:///{link}")) as catalog:
        _write(catalog, "1")
    assert disk.synced == 1


def test_a_process_that_comes_after_a_failure(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not told of that any more, and writes what is in the log again before it relies on it."""
    _write(catalog, "before")
    log, written = (tmp_path / "catalog.sqlite3-wal").read_bytes(), bytearray()
    write = os.pwrite

    def record(descriptor: int, data: bytes, offset: int) -> int:
        written[offset:] = data
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", record)
    with closing(Catalog(f"sqlite:///{tmp_path / 'catalog.sqlite3'}")) as late:
        _write(late, "1")
        assert bytes(written).startswith(log)
        written.clear()
        _write(late, "2")
        assert not written


def test_a_transaction_waits_for_what_was_committed_before(catalog: Catalog, disk: _Disk) -> None:
    """Also after a failure, when the log has to be written again under the lock that the transaction has."""
    _write(catalog, "before")
    with catalog.begin() as tx:
        disk.error = errno.EIO
        with pytest.raises(CommitUncertain):
            catalog.settle_locked()
        disk.error = 0
        catalog.settle_locked()
        tx.notes.write(Note.HEALTH, "after")
    assert _read(catalog) == "after"
