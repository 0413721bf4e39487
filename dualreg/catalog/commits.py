"""Commits: on SQLite, all that end while the disk is busy become durable by one wait for it.

With ``synchronous = NORMAL``, SQLite appends a commit to its write-ahead log, and leaves out one thing that
FULL does: it does not wait until the log is on the disk. Whoever answers for a commit waits for that here,
when the lock of the database is free again. A wait makes durable whatever was committed before it, by any
thread or process; later commits depend on earlier ones, and never outlast them. Checkpoints still sync the
log before they copy it to the database, and the database before the log is used again, so what has left the
log is durable, too.

The log has a descriptor of its own. SQLite's locks are on the other two files, so closing it releases none.

Source: SQLite, "PRAGMA synchronous", "Write-Ahead Logging"; ``sqlite3WalFrames`` and ``walCheckpoint``.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Condition
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from dualreg.catalog.waiting import PATIENCE
from dualreg.ownership import sync

_PIECE = 1 << 20


class CommitUncertain(SQLAlchemyError):
    """A transaction was committed, but the disk failed to make it durable: a power cut may undo it."""


class Commits(Protocol):
    """Waits until commits are durable. Threads may share it; after a fork, create another one."""

    def settle(self) -> None:
        """Make durable whatever was committed before the call.

        Raises:
            CommitUncertain: the disk fails.
        """

    def settle_locked(self) -> None:
        """Do the same within a transaction, which holds the lock of the database."""

    def require(self) -> None:
        """Raise CommitUncertain if the last attempt failed, and another one does."""

    def close(self) -> None:
        """Close the log; the next wait opens it again."""


def commits_of(file: Path | None) -> Commits:
    """Return what makes commits durable to the SQLite database *file*; None: it is another database."""
    return _LoggedCommits(file) if file else DurableCommits()


class DurableCommits:
    """Commits that are durable when they return, or need not be."""

    def settle(self) -> None: ...
    def settle_locked(self) -> None: ...
    def require(self) -> None: ...
    def close(self) -> None: ...


class _LoggedCommits:
    """Commits in the write-ahead log of an SQLite database.

    Of the threads that wait, one syncs the log for all whose commits ended before it began.

    The kernel reports a failure once, and then takes what it could not write for written. So what is in the
    log is written and synced again, under the lock of the database, before anything else is committed. Each
    process keeps the log open, since the kernel tells each descriptor of a failure; and one that opens it may
    be too late to be told, and writes it again first.
    """

    def __init__(self, file: Path) -> None:
        self._file = Path(os.path.realpath(file))  # as SQLite, which has the log beside the target of a link
        self._log = self._file.with_name(f"{self._file.name}-wal")
        self._changed = Condition()
        #: Numbers of syncs: of the last that began, that ended, and that ended well.
        self._begun = self._ended = self._good = 0
        self._failure: Exception | None = None
        self._descriptor: int | None = None
        self._is_new = False

    def settle(self) -> None:
        with self._changed:
            needed = self._begun + 1  # one that has begun may have missed the commit
            while self._ended < self._begun and self._ended < needed:
                self._changed.wait()
            leads = self._ended < needed
            if leads:
                self._begun = needed
        if leads:
            self._lead()
        if self._good < needed:
            raise CommitUncertain(f"the disk does not take the log: {self._failure}") from self._failure

    def settle_locked(self) -> None:
        try:
            log = os.open(self._log, os.O_RDWR)  # of its own: another thread may be syncing
        except FileNotFoundError:
            return
        try:
            _copy(log)
            os.fdatasync(log)
        except OSError as error:
            raise CommitUncertain(f"the disk does not take the log: {error}") from error
        finally:
            os.close(log)

    def require(self) -> None:
        if self._failure:
            self.settle()

    def close(self) -> None:
        with self._changed:
            while self._ended < self._begun:
                self._changed.wait()
            self._forget()

    def _lead(self) -> None:
        """Sync the log for all who wait."""
        failure: Exception | None = OSError("interrupted")
        try:
            self._sync()
            failure = None
        except (OSError, sqlite3.Error) as error:
            failure = error
        finally:
            with self._changed:
                self._ended, self._failure = self._begun, failure
                if failure is None:
                    self._good = self._ended
                self._changed.notify_all()

    def _sync(self) -> None:
        log = self._open()
        if log is not None and (self._failure or self._is_new):
            log = self._write_again()
        if log is None:
            return  # the last connection has copied everything to the database
        os.fdatasync(log)
        self._is_new = False

    def _open(self) -> int | None:
        """Return the descriptor of the log that has its name now; None if there is none."""
        try:
            if self._descriptor is not None and os.path.samestat(
                os.fstat(self._descriptor),
                os.stat(self._log),  # noqa: PTH116 -- each commit does this
            ):
                return self._descriptor
            self._forget()
            self._descriptor = os.open(self._log, os.O_RDWR)
            self._is_new = True
        except FileNotFoundError:
            return None
        sync(self._log.parent)
        return self._descriptor

    def _forget(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def _write_again(self) -> int | None:
        """Replace the log by what is in it, while nobody else writes to it; return its descriptor."""
        with closing(sqlite3.connect(self._file, timeout=PATIENCE, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            log = self._open()
            if log is not None:
                _copy(log)
            return log


def _copy(log: int) -> None:
    """Replace a log by what is in it, so that the kernel takes it for changed."""
    for offset in range(0, os.fstat(log).st_size, _PIECE):
        os.pwrite(log, os.pread(log, _PIECE, offset), offset)
