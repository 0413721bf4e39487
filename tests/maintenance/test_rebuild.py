"""A catalog that was lost is made again from the store, row by row."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dualreg.assembly import accounts_of, open_catalog, open_registry, prepare
from dualreg.catalog.upgrade import upgrade
from dualreg.cli import main
from dualreg.settings import Settings
from tests.apps import client_of
from tests.contracts.postgresql import DATABASES, database_of
from tests.maintenance.world import administer, fill, known_rows
from tests.migrate import trees
from tests.migrate.commands import command


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty PostgreSQL database with tables, or nothing for SQLite."""
    with database_of(request.param) as url:
        yield url


@pytest.fixture
def settings(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty registry, over each database."""
    settings = Settings(data=tmp_path / "data", database=database, audit="off", sparse_indexes=True)
    monkeypatch.setenv("DUALREG_DATABASE", database)
    with_tables(settings)
    prepare(settings)
    return settings


def with_tables(settings: Settings) -> None:
    """Make the tables."""
    catalog = open_catalog(settings)
    upgrade(catalog)
    catalog.close()


def lose(settings: Settings) -> None:
    """Lose the catalog."""
    if not settings.database:
        for file in settings.data.glob("catalog*"):
            file.unlink()
        return
    catalog = open_catalog(settings)
    with catalog.engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    catalog.close()


def rebuild(settings: Settings, *options: str, code: int = 0) -> dict[str, Any]:
    """Run the command; return what it prints."""
    line = ["db", "rebuild", "--json", "--data", str(settings.data), *options]
    done = CliRunner().invoke(main, line, env={"DUALREG_CONFIG": None})
    assert done.exit_code == code, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_every_row_comes_back(settings: Settings, tmp_path: Path) -> None:
    """Of all that was pushed over both APIs, converted, migrated, moved and deleted."""
    registry = open_registry(settings)
    fill(client_of(registry, settings))
    administer(accounts_of(registry))
    command(settings.data, f"run v1-tree:{trees.everything(tmp_path / 'old').tree.root}", code=None)
    before = known_rows(registry.state.catalog)
    registry.close()
    lose(settings)
    result = rebuild(settings)
    catalog = open_catalog(settings)
    after = known_rows(catalog)
    catalog.close()
    assert result["findings"] == []
    assert result["tags"] == len(before["tags"]) > 40
    assert result["v1_images"] == len(before["v1_images"]) > 20
    for name, rows in before.items():
        assert after[name] == rows, name
