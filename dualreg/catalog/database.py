"""Catalog: the door to the relations. A transaction lasts milliseconds and never spans a stream of bytes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import SQLAlchemyError

from dualreg.catalog.accounts import AccountQueries
from dualreg.catalog.attempts import AttemptQueries
from dualreg.catalog.blobs import BlobQueries
from dualreg.catalog.clients import ClientQueries
from dualreg.catalog.dialects import READ_ONLY, open_engine
from dualreg.catalog.forgotten import ForgottenQueries
from dualreg.catalog.keys import KeyQueries
from dualreg.catalog.manifests import ManifestQueries
from dualreg.catalog.permissions import PermissionQueries
from dualreg.catalog.referrers import ReferrerQueries
from dualreg.catalog.repositories import RepositoryQueries
from dualreg.catalog.secrets import SecretQueries
from dualreg.catalog.tags import TagQueries
from dualreg.catalog.uploads import UploadQueries
from dualreg.catalog.v1_images import V1ImageQueries
from dualreg.catalog.views import ViewQueries

#: What a database raises that cannot do what it should, such as on a full disk.
DatabaseFailure = SQLAlchemyError


def failure_text(error: SQLAlchemyError) -> str:
    """Return what a database complains of, in its driver's words."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0]


def is_absent(url: str) -> bool:
    """Tell whether *url* names an SQLite database that is not made yet.

    Raises:
        OSError: it cannot be made.
    """
    database = make_url(url)
    try:
        if database.get_backend_name() == "sqlite" and database.database:
            Path(database.database).stat()
    except FileNotFoundError:
        return True
    return False


def utc_now() -> datetime:
    """Return this instant, aware, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Transaction:
    """Everything the catalog can do, by noun; all of it commits together or not at all."""

    repositories: RepositoryQueries
    tags: TagQueries
    manifests: ManifestQueries
    blobs: BlobQueries
    uploads: UploadQueries
    v1_images: V1ImageQueries
    views: ViewQueries
    referrers: ReferrerQueries
    keys: KeyQueries
    clients: ClientQueries
    accounts: AccountQueries
    permissions: PermissionQueries
    secrets: SecretQueries
    attempts: AttemptQueries
    forgotten: ForgottenQueries

    @classmethod
    def over(cls, connection: Connection, now: datetime) -> Self:
        """Bind every noun to *connection*; what is written is dated *now*."""
        return cls(
            RepositoryQueries(connection, now),
            TagQueries(connection, now),
            ManifestQueries(connection, now),
            BlobQueries(connection, now),
            UploadQueries(connection, now),
            V1ImageQueries(connection),
            ViewQueries(connection),
            ReferrerQueries(connection),
            KeyQueries(connection, now),
            ClientQueries(connection),
            AccountQueries(connection, now),
            PermissionQueries(connection),
            SecretQueries(connection),
            AttemptQueries(connection, now),
            ForgottenQueries(connection, now),
        )


class Catalog:
    """A database of relations: SQLite or PostgreSQL, by URL.

    Attributes:
        now: The clock that dates every row.
    """

    def __init__(self, url: str, *, pool_size: int = 8, now: Callable[[], datetime] = utc_now) -> None:
        """Prepare to connect to *url*; nothing is opened before the first transaction.

        The folder of an SQLite database is made.

        Args:
            pool_size: Connections kept open: one a thread avoids waiting.
            now: Another clock, for tests.
        """
        database = make_url(url)
        if database.get_backend_name() == "sqlite" and database.database:
            path = Path(database.database)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o600)  # keys are in it; a file that is there keeps its mode
        self.now = now
        self.engine = open_engine(url, pool_size=pool_size)
        self._reader = self.engine.execution_options(**{READ_ONLY: True})

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        """Open a transaction that commits at the end of the block, and rolls back if the block raises.

        On SQLite it holds the one write lock from the start.
        """
        with self.engine.begin() as connection:
            yield Transaction.over(connection, self.now())

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a connection for reading only."""
        with self._reader.connect() as connection:
            yield Transaction.over(connection, self.now())

    @contextmanager
    def trial(self) -> Iterator["Catalog"]:
        """Open, for the block, a catalog in which everything happens as in this one, and nothing stays.

        All of it is one transaction, so on SQLite whoever else writes waits until the block ends.
        """
        with self.engine.connect() as connection:
            try:
                yield _Trial(self, connection)
            finally:
                connection.rollback()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


class _Trial(Catalog):
    """A catalog whose transactions are parts of one."""

    def __init__(self, tried: Catalog, connection: Connection) -> None:
        self.now, self.engine = tried.now, tried.engine
        self._connection = connection

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        with self._connection.begin_nested():
            yield Transaction.over(self._connection, self.now())

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        yield Transaction.over(self._connection, self.now())
