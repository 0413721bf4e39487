"""Fixtures: a registry in its own processes, spoken to over TCP."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from flask.testing import FlaskClient

from dualreg.assembly import build_registry, open_registry
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests import apps, quick
from tests.apps import client_of
from tests.conftest import Clock, GuardedCatalog, GuardedStore
from tests.databases import ON_POSTGRESQL, empty_database
from tests.programs import dualreg_server
from tests.protocol.exchange import World, make_world


@pytest.fixture(autouse=True)
def compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every read is answered with the lane and without it, and the answers are compared."""
    monkeypatch.setattr(apps, "COMPARING", True)


class Served(NamedTuple):
    """A running registry: where it listens, and what it works on."""

    host: str
    data: Path
    database: str


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """``dualreg serve``, as anybody would start it."""
    data = tmp_path_factory.mktemp("served") / "data"
    data.mkdir()
    with empty_database(data) as url, dualreg_server(data, database=url) as host:
        yield Served(host, data, url)


@pytest.fixture
def behind(served: Served) -> Iterator[Registry]:
    """A second registry over what the served one works on: for looking behind it."""
    registry = open_registry(Settings(data=served.data, database=served.database))
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def shared_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry in this process for all tests of a module: they change nothing, or do not mind."""
    folder = tmp_path_factory.mktemp("shared")
    with empty_database(folder) as url, closing(GuardedCatalog(url, now=Clock())) as catalog:
        yield build_registry(catalog, GuardedStore())


@pytest.fixture(scope="module")
def world(shared_registry: Registry) -> World:
    """A little of everything in the shared registry."""
    return make_world(client_of(shared_registry))


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, bytes, GuardedStore]:
    """A little of everything, to be copied: the file of an SQLite catalog, and the store."""
    path, store = tmp_path_factory.mktemp("filled") / "catalog.sqlite3", GuardedStore()
    path.write_bytes(quick.migrated())
    catalog = GuardedCatalog(f"sqlite:///{path}", now=Clock())
    world = make_world(client_of(build_registry(catalog, store)))
    catalog.close()
    return world, path.read_bytes(), store


@pytest.fixture
def fresh_world(
    request: pytest.FixtureRequest, client: FlaskClient, store: GuardedStore, tmp_path: Path
) -> World:
    """The same in a registry that a test may change."""
    if ON_POSTGRESQL:
        return make_world(client)
    world, catalog, content = request.getfixturevalue("filled")
    # Nobody has opened the file yet that the fixture ``catalog`` made.
    (tmp_path / "catalog.sqlite3").write_bytes(catalog)
    store.fill(content)
    return replace(world, client=client)
