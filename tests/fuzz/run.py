"""Batches of requests, each to a registry as new, in several processes."""

import atexit
import functools
import logging
import random
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from flask import Flask

from dualreg.assembly import build_registry
from dualreg.auth.accounts import Accounts
from dualreg.auth.passwords import Passwords
from dualreg.catalog.database import Catalog
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests import quick
from tests.apps import application, client_of
from tests.conftest import Clock, GuardedCatalog, GuardedStore
from tests.databases import database_in
from tests.faults.faulty import check_sound
from tests.fuzz.grammar import ACCOUNT, PASSWORD, Grammar, Known
from tests.fuzz.mutants import Mutants
from tests.fuzz.pool import prepare
from tests.fuzz.send import send
from tests.protocol.exchange import World, make_world

#: Requests to one registry.
BATCH = 500
#: How registries are configured, one batch after the other.
_SETTINGS: tuple[Mapping[str, object], ...] = (
    {},
    {"auth": "accounts"},
    {"strict_manifests": True, "notice": "fuzz", "cors_origins": "https://a.example"},
    {"sparse_indexes": True, "public_url": "https://b.example/registry", "bridge": "team/*=off,v1-to-v2"},
    {"v1": "readonly", "delete": False, "x_accel_prefix": "/blobs"},
)


@dataclass
class Result:
    """What came of requests.

    Attributes:
        answers: Answers by status.
        failures: What was wrong, with the batch and number of the request.
    """

    answers: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Result") -> None:
        """Add another result."""
        self.answers += other.answers
        self.failures += other.failures


def batch(seed: int, number: int) -> Result:
    """Send one batch, which only depends on the seed and its number."""
    result, chance = Result(), random.Random(f"{seed} {number}")  # noqa: S311 -- to be repeatable
    with _registry(_SETTINGS[number % len(_SETTINGS)]) as (app, registry, world), _errors() as logged:
        known = Known.of(world)
        mutants = Mutants(chance, Grammar(chance, known))
        for at in range(BATCH):
            request = mutants.request()
            try:
                answer = send(app, request)
                result.answers[answer.status] += 1
                known.learn(dict(answer.headers), answer.body)
            except Exception as error:  # noqa: BLE001 -- each is a finding
                trace = logged.pop() if logged else "".join(traceback.format_exception(error))
                result.failures.append(f"batch {number}, request {at}: {error}\n{request}\n{trace[-3000:]}")
        try:
            check_sound(registry)
        except Exception as error:  # noqa: BLE001 -- another
            trace = "".join(traceback.format_exception(error))
            result.failures.append(f"batch {number} left: {error}\n{trace[-3000:]}")
    return result


class _Filled(NamedTuple):
    """A registry with a little of everything, to be copied: the folder of the catalog, and the store."""

    world: World
    folder: Path
    store: GuardedStore


@functools.cache
def _filled() -> _Filled:
    quick.install()
    folder = Path(tempfile.mkdtemp(prefix="dualreg-fuzz-", dir=quick.memory_folder()))
    atexit.register(shutil.rmtree, folder)
    store = GuardedStore()
    with closing(Catalog(database_in(folder), now=Clock())) as catalog:
        client = client_of(build_registry(catalog, store))
        world = make_world(client)
        prepare(client)
        accounts = Accounts(catalog, Passwords(rounds=4))
        accounts.add(ACCOUNT, PASSWORD)
        accounts.grant(ACCOUNT, "team/*", "pull,push,delete")
    return _Filled(world, folder, store)


@contextmanager
def _registry(chosen: Mapping[str, object]) -> Iterator[tuple[Flask, Registry, World]]:
    """Yield an application over a copy of the filled registry."""
    filled = _filled()
    with tempfile.TemporaryDirectory(prefix="dualreg-fuzz-", dir=quick.memory_folder()) as folder:
        settings = Settings.model_validate({"audit": "off", "min_free": "0", "data": folder, **chosen})
        shutil.copytree(filled.folder, folder, dirs_exist_ok=True)
        store = GuardedStore()
        store.fill(filled.store)
        with closing(GuardedCatalog(settings.database_url, now=Clock())) as catalog:
            registry = build_registry(catalog, store, settings)
            app = application(registry, settings)
            app.config["PROPAGATE_EXCEPTIONS"] = False
            yield app, registry, filled.world


@contextmanager
def _errors() -> Iterator[list[str]]:
    """Yield a list to which what the application logs of failures is appended, with the traceback."""
    logged: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: logged.append(logging.Formatter().format(record))  # type: ignore[method-assign]
    logger = logging.getLogger("dualreg")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield logged
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
