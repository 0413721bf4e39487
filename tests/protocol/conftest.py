"""Fixtures: a registry in its own processes, spoken to over TCP."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from flask.testing import FlaskClient

from dualreg.assembly import build_registry, open_registry
from dualreg.catalog.upgrade import upgrade
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests.apps import client_of
from tests.conftest import Clock, GuardedCatalog, GuardedStore
from tests.programs import dualreg_server
from tests.protocol.exchange import World, make_world


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
    registry.blobs.state.catalog.close()


@pytest.fixture(scope="module")
def shared_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry in this process for all tests of a module: they change nothing, or do not mind."""
    catalog = GuardedCatalog(
        f"sqlite:///{tmp_path_factory.mktemp('shared') / 'catalog.sqlite3'}", now=Clock()
    )
    upgrade(catalog)
    yield build_registry(catalog, GuardedStore())
    catalog.close()


@pytest.fixture(scope="module")
def world(shared_registry: Registry) -> World:
    """A little of everything in the shared registry."""
    return make_world(client_of(shared_registry))


@pytest.fixture
def fresh_world(client: FlaskClient) -> World:
    """The same in a registry that a test may change."""
    return make_world(client)
