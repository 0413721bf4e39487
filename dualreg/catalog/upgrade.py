"""Upgrades of the database schema, by the migrations beside or inside the package.

While older versions serve the same PostgreSQL database: a migration that waits for a table makes all later
queries of that table wait behind it. So it waits for a moment only, and then tries again.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from dualreg.catalog import name_parts
from dualreg.catalog.database import Catalog
from dualreg.catalog.notes import Note, NoteQueries
from dualreg.catalog.tables import ServiceState
from dualreg.errors import CatalogUnreachable

_PACKAGE = Path(__file__).parent.parent
_log = logging.getLogger(__name__)
#: The first revision whose versions read ``Note.OLDEST``.
_FIRST = "0020"
#: Under this key, PostgreSQL lets one process upgrade at a time.
_TURN = 1146440018
#: Milliseconds for which a migration waits for a lock, and seconds for which it tries again.
_LOCK_TIMEOUT = 1000
_LOCK_PATIENCE = 600.0
#: Seconds between two attempts, at first and later, of which chance takes up to a half.
_PAUSE, _LONGEST_PAUSE = 1.0, 15.0
#: Another transaction has the lock, or waits for one of ours.
#: Source: PostgreSQL, "Error Codes": lock_not_available, deadlock_detected.
_CONFLICTS = ("55P03", "40P01")


class Revision(NamedTuple):
    """The revision of a database, and the newest that this version knows.

    Attributes:
        found: None: the database is empty.
        is_known: Whether this version knows it, or it is empty.
        is_compatible: Whether it is unknown, but the newer version that made it notes that we can use it.
    """

    found: str | None
    newest: str
    is_known: bool = True
    is_compatible: bool = False

    @property
    def is_current(self) -> bool:
        """Whether it is the newest."""
        return self.found == self.newest

    @property
    def is_usable(self) -> bool:
        """Whether this version can use the database as it is."""
        return self.is_current or self.is_compatible

    @property
    def advice(self) -> str:
        """What to do if it is not the newest."""
        if self.is_compatible:
            return "a newer version of dualreg made it, and this one can use it"
        if self.is_known:
            return f"expected {self.newest}; run `dualreg db upgrade`"
        return f"a newer version of dualreg made it, and this one only knows revisions up to {self.newest}"

    def require_known(self) -> None:
        """Raise CatalogUnreachable if this version neither knows it nor can use it."""
        if not self.is_known and not self.is_compatible:
            raise CatalogUnreachable(f"the catalog is at revision {self.found}; {self.advice}")


def upgrade(catalog: Catalog) -> tuple[str | None, str | None]:
    """Run the migrations that the database lacks, and return its revisions before and after.

    On SQLite, and in an empty database, they run in one transaction; otherwise each has its own. Concurrent
    processes wait for each other, and the first does the work. What a newer version made stays as it is. On
    SQLite, the index of parts of names is made if it is missing.

    Raises:
        CatalogUnreachable: the database cannot be reached, is newer than this version can use, or a migration
            fails.
    """
    if catalog.engine.dialect.name == "sqlite":
        before = _run(catalog, "head")
    else:
        with _turn(catalog):
            before = step = _patiently(lambda: _step(catalog))
            while not step.is_usable:
                step = _patiently(lambda: _step(catalog))
    catalog.settle()
    return before.found, before.found if before.is_compatible else before.newest


def revision(catalog: Catalog) -> Revision:
    """Return the revision of the database.

    Raises:
        CatalogUnreachable: the database cannot be reached.
    """
    with _connect(catalog) as connection:
        return _revision(connection, _scripts(_config()))


@contextmanager
def _connect(catalog: Catalog) -> Iterator[Connection]:
    """Open a connection.

    Raises:
        CatalogUnreachable: the database cannot be reached, or fails; with the message of the driver.
    """
    try:
        with catalog.engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise CatalogUnreachable(f"cannot open the catalog: {error.orig}") from error


@contextmanager
def _turn(catalog: Catalog) -> Iterator[None]:
    """Be the only process that upgrades a PostgreSQL database during the block.

    The lock belongs to a transaction of its own, since a pooler gives sessions to others.
    """
    with _connect(catalog) as connection, connection.begin():
        _limit(connection, lock_timeout=0)
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TURN})")
        yield


def _limit(connection: Connection, *, lock_timeout: int) -> None:
    """Let a transaction take its time, and wait for each lock for some milliseconds; 0: without an end."""
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        connection.exec_driver_sql(f"SET LOCAL {name} = 0")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {lock_timeout}")


def _patiently(step: Callable[[], Revision]) -> Revision:
    """Take a step, again and again while other transactions have its tables.

    Raises:
        CatalogUnreachable: it fails, or they have them for too long.
    """
    until, pause = time.monotonic() + _LOCK_PATIENCE, _PAUSE
    while True:
        try:
            return step()
        except CatalogUnreachable as error:
            if not _is_conflict(error):
                raise
            if time.monotonic() > until:
                raise CatalogUnreachable(
                    "another transaction has been using a table for too long; end it (pg_stat_activity lists "
                    "them), and run the command again"
                ) from error
        _log.warning("another transaction is using a table; trying again")
        time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 -- no secret
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_conflict(error: CatalogUnreachable) -> bool:
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and getattr(cause.orig, "sqlstate", None) in _CONFLICTS


def _step(catalog: Catalog) -> Revision:
    """Run the next migration of a PostgreSQL database, or all if it is empty; return its revision before.

    Raises:
        CatalogUnreachable: as ``upgrade``.
    """
    found = revision(catalog).found
    if found is None:
        return _run(catalog, "head")
    following = [script for script in _scripts(_config()) if script.down_revision == found]
    apart = any(not getattr(script.module, "transactional", True) for script in following)
    return _run(catalog, "+1", **{"isolation_level": "AUTOCOMMIT"} if apart else {})


def _run(catalog: Catalog, target: str, **options: str) -> Revision:
    """Run the migrations up to *target*, unless the database has them; return its revision before.

    Args:
        options: Of the connection.

    Raises:
        CatalogUnreachable: as ``upgrade``.
    """
    config = _config()
    scripts = _scripts(config)
    with _connect(catalog) as connection, connection.execution_options(**options).begin():
        found = _revision(connection, scripts)
        found.require_known()
        if not found.is_usable:
            if connection.dialect.name == "postgresql":
                _limit(connection, lock_timeout=_LOCK_TIMEOUT)
            config.attributes["connection"] = connection
            command.upgrade(config, target)
            _note_oldest(connection, scripts)
        if not found.is_compatible:
            name_parts.settle(connection)
    return found


def _note_oldest(connection: Connection, scripts: Sequence[Script]) -> None:
    """Note for older versions whether they can use the database."""
    found = _revision(connection, scripts).found
    oldest = None
    for script in scripts:
        oldest = getattr(script.module, "oldest", _FIRST if script.revision == _FIRST else oldest)
        if script.revision == found and oldest:
            NoteQueries(connection).write(Note.OLDEST, oldest)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_migrations()))
    return config


def _scripts(config: Config) -> Sequence[Script]:
    """Return the migrations, the oldest first."""
    return [*ScriptDirectory.from_config(config).walk_revisions()][::-1]


def _revision(connection: Connection, scripts: Sequence[Script]) -> Revision:
    found = MigrationContext.configure(connection).get_current_revision()
    known = [script.revision for script in scripts]
    if found is None or found in known:
        return Revision(found, known[-1])
    query = select(ServiceState.value).where(ServiceState.name == Note.OLDEST)
    return Revision(found, known[-1], is_known=False, is_compatible=connection.scalar(query) in known)


def _migrations() -> Path:
    """Return the folder of migrations: in an installed package inside it, in a checkout beside it."""
    packaged = _PACKAGE / "migrations"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "migrations"
