"""SQLite catalogs made from a template, in a fraction of the time that the migrations take.

The processes that tests start by ``tests/zygote.py`` do so, too; it imports no more than it must.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from dualreg.catalog import upgrade


class _Command:
    """Alembic's commands; an SQLite catalog without tables gets them from the template."""

    def __init__(self, schema: Callable[[], Sequence[str]]) -> None:
        """Make tables by the statements that *schema* returns."""
        self._schema = schema

    def upgrade(self, config: Config, target: str) -> None:
        """Make the tables, or run the migrations that are missing."""
        connection = config.attributes["connection"]
        if connection.dialect.name != "sqlite" or _has_tables(connection):
            command.upgrade(config, target)
            return
        for statement in self._schema():
            connection.exec_driver_sql(statement)


def _has_tables(connection: Any) -> bool:
    found = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
    return bool(found)


class _Scripts:
    """Alembic's folder of migrations, read once."""

    @staticmethod
    def from_config(config: Config) -> ScriptDirectory:
        """Return the folder that *config* names."""
        return _scripts(cast("str", config.get_main_option("script_location")))


@functools.cache
def _scripts(folder: str) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", folder)
    return ScriptDirectory.from_config(config)


def install(schema: Callable[[], Sequence[str]]) -> None:
    """Have this process, and those that it forks, make catalogs by the statements that *schema* returns."""
    upgrade.command = _Command(schema)  # type: ignore[assignment]
    upgrade.ScriptDirectory = _Scripts  # type: ignore[misc, assignment]
