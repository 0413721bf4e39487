"""Bringing a database's schema up to date, with the migrations that lie beside or inside the package."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dualreg.catalog.database import Catalog
from dualreg.errors import CatalogUnreachable

_PACKAGE = Path(__file__).parent.parent


@contextmanager
def _connect(catalog: Catalog) -> Iterator[Connection]:
    """Open a connection.

    Raises:
        CatalogUnreachable: in the driver's words.
    """
    try:
        with catalog.engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise CatalogUnreachable(f"the catalog cannot be opened: {error.orig}") from error


def upgrade(catalog: Catalog) -> tuple[str | None, str | None]:
    """Run the migrations that the database lacks, and return the revision before and after.

    Safe to call from several processes at once: the second finds nothing left to do.
    """
    config = Config()
    config.set_main_option("script_location", str(_migrations()))
    head = ScriptDirectory.from_config(config).get_current_head()
    with _connect(catalog) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1146440018)")
        before = MigrationContext.configure(connection).get_current_revision()
        if before != head:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return before, head


def revision(catalog: Catalog) -> tuple[str | None, str | None]:
    """Return the database's revision, and the one that this version of dualreg wants."""
    config = Config()
    config.set_main_option("script_location", str(_migrations()))
    with _connect(catalog) as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    return found, ScriptDirectory.from_config(config).get_current_head()


def _migrations() -> Path:
    """Return the folder of migrations.

    It is inside the package if it was installed from a wheel, else beside it.
    """
    packaged = _PACKAGE / "migrations"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "migrations"
