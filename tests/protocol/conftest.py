"""Fixtures: a registry in its own processes, spoken to over TCP."""

from collections.abc import Iterator
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


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """``dualreg serve``, as anybody would start it."""
    data = tmp_path_factory.mktemp("served") / "data"
    with dualreg_server(data) as host:
        yield Served(host, data)


@pytest.fixture
def behind(served: Served) -> Iterator[Registry]:
    """A second registry over what the served one works on: for looking behind it."""
    registry = open_registry(Settings(data=served.data))
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def shared_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry in this process for all tests of a module: they change nothing, or do not mind."""
    path = tmp_path_factory.mktemp("shared") / "catalog.sqlite3"
    path.write_bytes(quick.migrated())
    catalog = GuardedCatalog(f"sqlite:///{path}", now=Clock())
    yield build_registry(catalog, GuardedStore())
    catalog.close()


@pytest.fixture(scope="module")
def world(shared_registry: Registry) -> World:
    """A little of everything in the shared registry."""
    return make_world(client_of(shared_registry))


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, bytes, GuardedStore]:
    """A little of everything, to be copied: the catalog's file, and the store."""
    path, store = tmp_path_factory.mktemp("filled") / "catalog.sqlite3", GuardedStore()
    path.write_bytes(quick.migrated())
    catalog = GuardedCatalog(f"sqlite:///{path}", now=Clock())
    world = make_world(client_of(build_registry(catalog, store)))
    catalog.close()
    return world, path.read_bytes(), store


@pytest.fixture
def fresh_world(
    filled: tuple[World, bytes, GuardedStore], client: FlaskClient, store: GuardedStore, tmp_path: Path
) -> World:
    """The same in a registry that a test may change."""
    world, catalog, content = filled
    # Nobody has opened the file yet that the fixture ``catalog`` made.
    (tmp_path / "catalog.sqlite3").write_bytes(catalog)
    store.fill(content)
    return replace(world, client=client)
