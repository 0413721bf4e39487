"""Leading: some work is done by one process for all instances.

On PostgreSQL, a lock of the database says which one. A transaction of its own holds it, so it is free as soon
as the process, its connection or its machine is gone. A process that was stopped, or cut off, does not know
that it lost the lock. So each leader has a number, its term, and each transaction that it makes requires that
no other one has begun since.

On SQLite, all processes are on one machine, and a file is locked, which no process loses.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Event, Thread

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.dialects import lock_key
from dualreg.catalog.integrity import file_of
from dualreg.catalog.notes import Note
from dualreg.filelocks import is_locked, try_lock
from dualreg.ownership import inherit_owner

#: Seconds after which the server ends the transaction of a leader that says nothing, and between two beats.
_SILENCE, _BEAT = 60, 15
_LIMIT = text(f"SET LOCAL idle_in_transaction_session_timeout = '{_SILENCE}s'")
_LOCK, _ALIVE = text("SELECT pg_try_advisory_xact_lock(:key)"), text("SELECT 1")
#: Whether a session of this database holds a lock. Source: PostgreSQL, "pg_locks", of keys of 64 bits.
_IS_LOCKED = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND (classid::bigint << 32 | objid::bigint) = :key"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Duty(StrEnum):
    """The work that there is."""

    COLLECTION = "collection"
    SCRUBBING = "scrubbing"
    IMPORT = "import"
    MIRRORING = "mirroring"
    RETENTION = "retention"
    WEBHOOKS = "webhooks"
    GROWTH = "growth"


class LeadLost(SQLAlchemyError):
    """Another process does the work by now."""


@dataclass(frozen=True, slots=True)
class Lead:
    """This process leads some work, as far as it knows."""

    catalog: Catalog
    duty: Duty

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Have each transaction of the catalog in the block require that no other process leads by then.

        It raises LeadLost otherwise, and changes nothing.
        """
        note = Note(f"{self.duty}-term")
        with self.catalog.begin() as tx:
            term = tx.notes.count(note)

        def require(tx: Transaction) -> None:
            if self.duty is Duty.COLLECTION and tx.connection.dialect.name == "postgresql":
                tx.connection.execute(_LIMIT)  # one that stops in it keeps its locks from the next leader
            if tx.notes.hold(note) != f"{term}":
                raise LeadLost(f"another process has taken over the {self.duty}")

        self.catalog.fence = require
        try:
            yield
        finally:
            self.catalog.fence = None


@contextmanager
def lead(catalog: Catalog, duty: Duty) -> Iterator[Lead | None]:
    """Lead some work for the block; yield None if another process does.

    On PostgreSQL, a leader has one connection more than the catalog has: requests and the work may need all
    of those.
    """
    with held(catalog, duty) as is_mine:
        yield Lead(catalog, duty) if is_mine else None


@contextmanager
def held(catalog: Catalog, work: str) -> Iterator[bool]:
    """Hold the lock of some work for the block; yield whether it was free.

    A process that loses it does not know that: ``Lead.fenced`` is for what must not be done twice.

    Args:
        work: A duty, or another name that is part of a file's.
    """
    file = _file_of(catalog)
    with _file_locked(_beside(file, work)) if file else _locked(catalog, work) as is_mine:
        yield is_mine


def is_held(catalog: Catalog, work: str) -> bool:
    """Return whether a process holds the lock of some work. No other one is kept from it by that."""
    if file := _file_of(catalog):
        return is_locked(_beside(file, work))
    with catalog.read() as tx:
        return bool(tx.connection.scalar(_IS_LOCKED, {"key": _key(work)}))


def _file_of(catalog: Catalog) -> Path | None:
    return file_of(catalog.engine.url.render_as_string(hide_password=False))


def _beside(file: Path, work: str) -> Path:
    """Return the file to lock, beside that of an SQLite database, whose own locks would end with this one."""
    return file.with_name(f"{file.name}-{work}")


def _key(work: str) -> int:
    return lock_key(f"dualreg {work}")


@contextmanager
def _locked(catalog: Catalog, work: str) -> Iterator[bool]:
    """Hold the lock of the database for the block; yield whether it was free."""
    with catalog.engine.connect() as connection:
        connection.execute(_LIMIT)
        is_mine = bool(connection.scalar(_LOCK, {"key": _key(work)}))
        if is_mine:
            connection.detach()
        try:
            with _beating(connection, on=is_mine):
                yield is_mine
        finally:
            with suppress(SQLAlchemyError):  # it may be lost
                connection.rollback()


@contextmanager
def _beating(connection: Connection, *, on: bool) -> Iterator[None]:
    """Let the server know, now and then, that this process is there."""
    done = Event()

    def beat() -> None:
        with suppress(SQLAlchemyError):
            while not done.wait(_BEAT):
                connection.execute(_ALIVE)

    thread = Thread(target=beat, name="leading", daemon=True)
    if on:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if on:
            thread.join()


@contextmanager
def _file_locked(path: Path) -> Iterator[bool]:
    """Do the same with a file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        inherit_owner(path)
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lead_when_free(catalog: Catalog, duty: Duty, wait: Callable[[], bool]) -> Iterator[Lead | None]:
    """Lead some work for the block, as soon as no other process does; yield None if *wait* ends that.

    Args:
        wait: Waits between two tries; returns whether to try again.
    """
    while True:
        with lead(catalog, duty) as led:
            if led:
                yield led
                return
        if not wait():
            yield None
            return
