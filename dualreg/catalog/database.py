"""Catalog: transactions over the SQL database.

Transactions are short: they last milliseconds, and never span the transfer of bytes from or to a client.
"""

import os
import sqlite3
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

from sqlalchemy import Connection, Engine, exc, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dualreg.catalog.access import NAMES, AccessQueries
from dualreg.catalog.accounts import AccountQueries
from dualreg.catalog.at_once import AtOnceQueries
from dualreg.catalog.attempts import AttemptQueries
from dualreg.catalog.blobs import BlobQueries
from dualreg.catalog.checks import CheckQueries
from dualreg.catalog.clients import ClientQueries
from dualreg.catalog.clock import DatabaseClock, utc_now
from dualreg.catalog.commits import CommitUncertain, commits_of
from dualreg.catalog.deletions import DeletionQueries
from dualreg.catalog.derivations import DerivationQueries
from dualreg.catalog.dialects import READ_ONLY, has_changed, hasten, open_engine, watch_changes
from dualreg.catalog.following import FollowingQueries
from dualreg.catalog.garbage import GarbageQueries
from dualreg.catalog.history import HistoryQueries
from dualreg.catalog.integrity import file_of
from dualreg.catalog.keys import KeyQueries
from dualreg.catalog.linking import LinkingQueries
from dualreg.catalog.manifests import ManifestQueries
from dualreg.catalog.notes import Note, NoteQueries
from dualreg.catalog.permissions import PermissionQueries
from dualreg.catalog.policies import PolicyQueries
from dualreg.catalog.quotas import QuotaQueries
from dualreg.catalog.readers import Readers
from dualreg.catalog.rebuilding import RebuildQueries
from dualreg.catalog.referrers import ReferrerQueries
from dualreg.catalog.repositories import RepositoryQueries
from dualreg.catalog.retention import RetentionQueries
from dualreg.catalog.secrets import SecretQueries
from dualreg.catalog.switches import SwitchQueries
from dualreg.catalog.tags import TagQueries
from dualreg.catalog.tasks import TaskQueries
from dualreg.catalog.transcoded import TranscodedQueries
from dualreg.catalog.undelete import UndeleteQueries
from dualreg.catalog.uploads import UploadQueries
from dualreg.catalog.upstreams import UpstreamQueries
from dualreg.catalog.usage import UsageQueries
from dualreg.catalog.uses import UseQueries
from dualreg.catalog.v1_images import V1ImageQueries
from dualreg.catalog.versions import versions_of
from dualreg.catalog.views import ViewQueries
from dualreg.catalog.waiting import Writers
from dualreg.catalog.webhooks import WebhookQueries
from dualreg.catalog.writer import Writer
from dualreg.mountinfo import is_local
from dualreg.ownership import inherit_owner, make_folders

Queries = TypeVar("Queries")
_CONFIRM = text("SELECT 1")
#: Undoes what was done beside a transaction, if it fails.
Undo = Callable[[], object]
#: The base class of what a failing database raises, for example on a full disk.
DatabaseFailure = SQLAlchemyError


class CatalogGone(SQLAlchemyError):
    """The file of the catalog was deleted or replaced while it is in use: another one may have its name."""


def failure_text(error: Exception) -> str:
    """Return, in one line, that the catalog failed, and the first line of the driver's message."""
    return "catalog error: " + str(getattr(error, "orig", None) or error).partition("\n")[0]


def is_outage(error: SQLAlchemyError) -> bool:
    """Return whether the database is unreachable, busy, full or damaged; a wrong statement is none of these.

    A file that is malformed raises DatabaseError itself, the base of both sorts.
    """
    failures = exc.OperationalError | exc.InterfaceError | exc.InternalError | exc.TimeoutError
    return isinstance(error, failures | CatalogGone | CommitUncertain) or type(error) is exc.DatabaseError


def _is_refusal(error: BaseException) -> bool:
    """Return whether the database answered that it has not committed; a lost connection is no answer."""
    return isinstance(error, DBAPIError) and not error.connection_invalidated


def is_absent(url: str) -> bool:
    """Return whether *url* is an SQLite database whose file does not exist yet.

    Raises:
        CatalogUnreachable: as ``parse_url``.
        OSError: it cannot be found out, for example because a folder may not be read.
    """
    file = file_of(url)
    try:
        if file:
            file.stat()
    except FileNotFoundError:
        return True
    return False


class _Noun(Generic[Queries]):
    """The queries of one noun, made when they are first asked for: most transactions need few of them."""

    def __init__(self, make: Callable[..., Queries], *, timed: bool = True) -> None:
        """Make them of the connection and, if *timed*, the time of the transaction."""
        self._make, self._timed = make, timed

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, transaction: "Transaction", owner: type) -> Queries:
        given = (transaction.connection, transaction.now) if self._timed else (transaction.connection,)
        made = self._make(*given)
        setattr(transaction, self._name, made)  # found before this from then on
        return made


@dataclass
class Transaction:
    """All queries, by noun, in one database transaction: they commit together or not at all.

    Use it in one thread, within the block that opened it. Queries return plain values, which may be kept.
    Concurrent transactions that change the same rows wait for each other and then see each other's result;
    other locks are named by the methods that take them.

    Attributes:
        connection: For the queries alone.
        now: The time that its writes record.
    """

    connection: Connection
    now: datetime
    repositories = _Noun(RepositoryQueries)
    tags = _Noun(TagQueries)
    history = _Noun(HistoryQueries)
    manifests = _Noun(ManifestQueries)
    blobs = _Noun(BlobQueries)
    uploads = _Noun(UploadQueries)
    at_once = _Noun(AtOnceQueries)
    v1_images = _Noun(V1ImageQueries)
    views = _Noun(ViewQueries)
    transcoded = _Noun(TranscodedQueries)
    derivations = _Noun(DerivationQueries, timed=False)
    garbage = _Noun(GarbageQueries)
    upstreams = _Noun(UpstreamQueries, timed=False)
    uses = _Noun(UseQueries, timed=False)
    undelete = _Noun(UndeleteQueries)
    usage = _Noun(UsageQueries, timed=False)
    referrers = _Noun(ReferrerQueries, timed=False)
    keys = _Noun(KeyQueries)
    clients = _Noun(ClientQueries, timed=False)
    accounts = _Noun(AccountQueries)
    permissions = _Noun(PermissionQueries, timed=False)
    policies = _Noun(PolicyQueries)
    quotas = _Noun(QuotaQueries, timed=False)
    tasks = _Noun(TaskQueries)
    retention = _Noun(RetentionQueries, timed=False)
    switches = _Noun(SwitchQueries)
    secrets = _Noun(SecretQueries, timed=False)
    attempts = _Noun(AttemptQueries)
    deletions = _Noun(DeletionQueries)
    access = _Noun(AccessQueries)
    linking = _Noun(LinkingQueries, timed=False)
    checks = _Noun(CheckQueries, timed=False)
    notes = _Noun(NoteQueries, timed=False)
    rebuild = _Noun(RebuildQueries, timed=False)
    webhooks = _Noun(WebhookQueries)
    following = _Noun(FollowingQueries)

    def confirm(self) -> None:
        """Ask the database whether the transaction, with its locks, is still there.

        Raises:
            DatabaseFailure: it is not: the connection was lost, or the server has ended it.
        """
        self.connection.execute(_CONFIRM)


class Catalog:
    """The SQL database, SQLite or PostgreSQL. Threads may share it; after a fork, create another one.

    Attributes:
        now: The clock from which transactions take the time that they record.
        engine: For migrations and tests.
        on_access_change: Called after each commit that changed what ``catalog.access`` copies, if it is set.
        fence: Called at the start of each transaction that writes, if it is set; raises if there may be none.
    """

    on_access_change: Callable[[], None] | None = None
    fence: Callable[[Transaction], None] | None = None
    _waits = True

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        few_pages: bool = False,
        timeout: float | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        """Use the database at *url*, without connecting before the first transaction.

        An SQLite database is created, with its folder; its tables are not (``catalog.upgrade``).

        Args:
            url: As SQLAlchemy takes it.
            pool_size: Number of connections, at most; on SQLite, twice as many for a moment.
            few_pages: Whether those that read SQLite remember little, as for work that reads all of it once.
            timeout: Seconds that a statement may take on PostgreSQL; None: as long as it needs.
            now: The clock, of aware times in UTC. None: that of the server, or on SQLite of this machine.

        Raises:
            CatalogUnreachable: the URL is malformed, or no driver for it is installed.
            OSError: the SQLite database cannot be created.
        """
        self._file = file_of(url)
        if self._file:
            make_folders(self._file.parent)
            if not self._file.exists():
                self._file.touch(0o600)  # it will contain private keys; an existing file keeps its mode
                inherit_owner(self._file)
        self._identity = _identity(self._file)
        clock = DatabaseClock()
        self.now = now or (utc_now if self._file else clock)
        self.engine = open_engine(url, pool_size=pool_size, few_pages=few_pages, timeout=timeout, clock=clock)
        watch_changes(self.engine, NAMES)
        self._writers = Writers(max(pool_size * 3 // 4, 1), alone=self._file is not None)
        self._writer = Writer(self.engine) if self._file else self.engine
        self._commits, self._versions = commits_of(self._file), versions_of(self.engine)
        reader = self.engine.execution_options(**{READ_ONLY: True})
        self._readers = Readers(reader, pool_size) if self._file else reader

    def read_clock(self) -> None:
        """Have ``now`` return the time of the server before the first transaction; it may fail."""
        with suppress(SQLAlchemyError):
            if not self._file:
                self.engine.connect().close()

    def hasten(self) -> None:
        """Do not wait for the disk with each commit from now on, for work that can be done again.

        After a power cut, the last commits may be missing; no earlier one is then. ``settle`` still waits on
        SQLite, and ``RebuildQueries.wait_for_disk`` lets a transaction wait on PostgreSQL.
        """
        self._waits = False
        hasten(self.engine)

    @contextmanager
    def begin(self, *, durable: bool = True, undo: Undo | None = None) -> Iterator[Transaction]:
        """Open a transaction that commits at the end of the block, or rolls back if the block raises.

        After the block, its changes are durable, as is all that was committed before. On SQLite, the
        transaction holds the write lock of the database from its start, so there is one at a time; on
        PostgreSQL, it is READ COMMITTED. A quarter of the connections is left to readers.

        Others see the changes a moment before they are durable: see ``settle``.

        Args:
            durable: Whether to wait for the disk. Without that, a power cut may undo the transaction, unless
                another one was made durable after it.
            undo: Called if the transaction fails, but not if it may be committed all the same, whatever has
                failed or was interrupted then.

        Raises:
            DatabaseFailure: the database fails or is gone, another transaction holds a lock for too long, or
                too many are waiting for one that does.
            CommitUncertain: the disk failed after the commit. It is a DatabaseFailure.
        """
        is_ending = False
        try:
            self._require_file()
            self._commits.require()
            with self._writers.enter():
                with self._writers.turn(), self._writer.begin() as connection:
                    yield (tx := self._started(connection))
                    if changed := self.on_access_change is not None and has_changed(connection):
                        tx.notes.count(Note.ACCESS)
                    is_ending = True
                if durable and self._waits:
                    self.settle()
        except BaseException as error:
            if undo and (not is_ending or _is_refusal(error)):
                undo()
            raise
        if changed and self.on_access_change:
            self.on_access_change()

    def _started(self, connection: Connection) -> Transaction:
        tx = Transaction(connection, self.now())
        if self.fence:
            self.fence(tx)
        return tx

    def settle(self) -> None:
        """Make durable whatever was committed before, by anyone; raises CommitUncertain if the disk fails."""
        self._commits.settle()

    def settle_locked(self) -> None:
        """Do the same within a transaction."""
        self._commits.settle_locked()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a connection that only reads, and never waits for writers.

        Each statement sees what was committed when it began; two statements may see different states.

        Raises:
            DatabaseFailure: the database fails.
        """
        self._require_file()
        with self._readers.connect() as connection:
            yield Transaction(connection, self.now())

    def version(self, *, wait: bool = True) -> Hashable | None:
        """Return a value that differs from all earlier ones if a transaction was committed in between.

        If two values are equal, every query returns the same at both times. While the database or its disk
        fails, no two are.

        Args:
            wait: Whether to wait for threads and the database; otherwise None is returned instead.
        """
        try:
            self._require_file()
            return self._versions.current(wait=wait)
        except (SQLAlchemyError, sqlite3.Error, OSError):
            return object()

    @property
    def is_local(self) -> bool:
        """Whether the database is a file on this machine."""
        return self._file is not None and is_local(self._file)

    @contextmanager
    def trial(self) -> Iterator["Catalog"]:
        """Yield a catalog over the same database whose changes are rolled back at the end of the block.

        Its transactions are savepoints of a single one, so on SQLite other writers wait until the block ends.
        """
        with self.engine.connect() as connection:
            try:
                yield _Trial(self, connection)
            finally:
                connection.rollback()

    def close(self) -> None:
        """Close all idle connections. The catalog can be used again."""
        self._versions.close()
        for kept in (self._writer, self._readers):
            if not isinstance(kept, Engine):
                kept.close()
        self.engine.dispose()
        self._commits.close()

    def _require_file(self) -> None:
        """Raise CatalogGone unless the file is the one that was opened."""
        if self._file and _identity(self._file) != self._identity:
            raise CatalogGone(f"{self._file} was deleted or replaced; put it back, or restart dualreg")


def _identity(file: Path | None) -> tuple[int, int] | None:
    """Return what tells a file from others that have its name; None if it does not exist."""
    try:
        found = file and os.stat(file)  # noqa: PTH116 -- each transaction does this
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino) if found else None


class _Trial(Catalog):
    """A catalog whose transactions are savepoints of one connection."""

    def __init__(self, tried: Catalog, connection: Connection) -> None:
        self.now, self.engine = tried.now, tried.engine
        self._connection = connection

    @contextmanager
    def begin(self, *, durable: bool = True, undo: Undo | None = None) -> Iterator[Transaction]:
        del durable, undo  # nothing is durable, and nothing else may be changed
        with self._connection.begin_nested():
            yield Transaction(self._connection, self.now())

    def settle(self) -> None: ...

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        yield Transaction(self._connection, self.now())
