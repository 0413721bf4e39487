"""Upgrades of the database schema, by the migrations beside or inside the package."""

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
        CatalogUnreachable: the database cannot be reached, or fails; with the message of the driver.
    """
    try:
        with catalog.engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise CatalogUnreachable(f"cannot open the catalog: {error.orig}") from error


def upgrade(catalog: Catalog) -> tuple[str | None, str | None]:
    """Run the migrations that the database lacks, and return its revisions before and after.

    They run in one transaction. Concurrent processes wait for each other, and the first does the work.

    Raises:
        CatalogUnreachable: the database cannot be reached, is newer than this version, or a migration fails.
    """
    config = _config()
    head = ScriptDirectory.from_config(config).get_current_head()
    with _connect(catalog) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1146440018)")
        before = _revision(connection, config)
        if before != head:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    catalog.settle()
    return before, head


def revision(catalog: Catalog) -> tuple[str | None, str | None]:
    """Return the revision of the database, None if it is empty, and the one that this version needs.

    Raises:
        CatalogUnreachable: the database cannot be reached, or is newer than this version.
    """
    config = _config()
    with _connect(catalog) as connection:
        found = _revision(connection, config)
    return found, ScriptDirectory.from_config(config).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_migrations()))
    return config


def _revision(connection: Connection, config: Config) -> str | None:
    """Return the revision of the database; None if it is empty.

    Raises:
        CatalogUnreachable: this version does not know the revision.
    """
    found = MigrationContext.configure(connection).get_current_revision()
    scripts = ScriptDirectory.from_config(config)
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise CatalogUnreachable(
            f"the catalog is at revision {found}, which a newer version of dualreg made; this one only knows "
            f"revisions up to {scripts.get_current_head()}"
        )
    return found


def _migrations() -> Path:
    """Return the folder of migrations: in an installed package inside it, in a checkout beside it."""
    packaged = _PACKAGE / "migrations"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "migrations"
