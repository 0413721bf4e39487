"""Upgrades of the database schema, by the migrations beside or inside the package."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dualreg.catalog.database import Catalog
from dualreg.errors import CatalogUnreachable

_PACKAGE = Path(__file__).parent.parent


class Revision(NamedTuple):
    """The revision of a database, and the newest that this version knows.

    Attributes:
        found: None: the database is empty.
        is_known: Whether this version knows it, or it is empty.
    """

    found: str | None
    newest: str
    is_known: bool = True

    @property
    def is_current(self) -> bool:
        """Whether it is the newest."""
        return self.found == self.newest

    @property
    def advice(self) -> str:
        """What to do if it is not the newest."""
        if self.is_known:
            return f"expected {self.newest}; run `dualreg db upgrade`"
        return f"a newer version of dualreg made it, and this one only knows revisions up to {self.newest}"

    def require_known(self) -> None:
        """Raise CatalogUnreachable if this version does not know it."""
        if not self.is_known:
            raise CatalogUnreachable(f"the catalog is at revision {self.found}; {self.advice}")


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


def upgrade(catalog: Catalog) -> tuple[str | None, str]:
    """Run the migrations that the database lacks, and return its revisions before and after.

    They run in one transaction. Concurrent processes wait for each other, and the first does the work.

    Raises:
        CatalogUnreachable: the database cannot be reached, is newer than this version, or a migration fails.
    """
    config = _config()
    with _connect(catalog) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1146440018)")
        before = _revision(connection, ScriptDirectory.from_config(config))
        before.require_known()
        if not before.is_current:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    catalog.settle()
    return before.found, before.newest


def revision(catalog: Catalog) -> Revision:
    """Return the revision of the database.

    Raises:
        CatalogUnreachable: the database cannot be reached.
    """
    with _connect(catalog) as connection:
        return _revision(connection, ScriptDirectory.from_config(_config()))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_migrations()))
    return config


def _revision(connection: Connection, scripts: ScriptDirectory) -> Revision:
    found = MigrationContext.configure(connection).get_current_revision()
    known = [script.revision for script in scripts.walk_revisions()]
    return Revision(found, known[0], found is None or found in known)


def _migrations() -> Path:
    """Return the folder of migrations: in an installed package inside it, in a checkout beside it."""
    packaged = _PACKAGE / "migrations"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "migrations"
