"""docs/openapi.yaml describes what each operation answers when the registry refuses, or fails."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from schemathesis.checks import not_a_server_error
from sqlalchemy.exc import OperationalError

from dualreg.assembly import writes_of
from dualreg.auth.accounts import Accounts
from dualreg.auth.passwords import Passwords
from dualreg.catalog.database import Catalog, Transaction
from dualreg.image.digest import Digest
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.web.v2.errors import V2_ERRORS
from tests.apps import application
from tests.auth.conftest import PASSWORD, basic
from tests.conftest import Clock
from tests.protocol.exchange import REPOSITORY, World, make_world
from tests.protocol.test_openapi import CHECKS, DESCRIPTION, OPERATIONS

#: Operations that need no catalog, and no login or permission of their own.
ABOUT_THE_API = ("/v2", "/v2/", "/v2/_oci/ext/discover")
WRITES = ("POST", "PATCH", "PUT", "DELETE")

Answers = Callable[..., dict[str, int]]


@pytest.fixture
def world(registry: Registry) -> World:
    """A little of everything."""
    return make_world(application(registry).test_client())


@pytest.fixture
def answers(world: World) -> Answers:
    """Sends the requests of all operations to an application; returns the statuses, which are described."""
    layer = str(Digest.of(world.image.layers[0]))
    values = {"name": REPOSITORY, "tag": "v1", "digest": layer, "upload": world.upload.rpartition("/")[2]}
    values["reference"] = "one"

    def send(label: str, app: Flask, headers: dict[str, str]) -> int:
        method, _, path = label.partition(" ")
        is_manifest = "/manifests/" in path
        body = world.image.manifest if is_manifest else b"some"
        media_type = world.image.media_type if is_manifest else "application/octet-stream"
        sent: dict[str, Any] = {"body": body, "media_type": media_type} if method in ("PATCH", "PUT") else {}
        case = OPERATIONS[label].Case(
            path_parameters={name: value for name, value in values.items() if f"{{{name}}}" in path},
            query={"digest": layer} if (method, "uploads" in path) == ("PUT", True) else {},
            headers=headers,
            **sent,
        )
        response = case.call(app=app)
        response.headers = {name: [*map(str, values)] for name, values in response.headers.items()}
        case.validate_response(
            response, checks=[check for check in CHECKS if check is not not_a_server_error]
        )
        return int(response.status_code)

    def send_all(app: Flask, **headers: str) -> dict[str, int]:
        return {label: send(label, app, headers) for label in OPERATIONS}

    return send_all


def with_accounts(catalog: Catalog, registry: Registry, **settings: object) -> Flask:
    """Return an application that wants a login, with an account that may do nothing."""
    Accounts(catalog, Passwords(rounds=4)).add("alice", PASSWORD)
    return application(registry, auth="accounts", **settings)


def of_repositories(statuses: dict[str, int], *methods: str) -> set[int]:
    """Return the statuses of operations on repositories, all or those of some methods."""
    return {
        status
        for label, status in statuses.items()
        if "{name}" in label and (not methods or label.split()[0] in methods)
    }


@pytest.mark.slow
def test_refusals_of_a_read_only_registry(
    registry: Registry, answers: Answers, tmp_path: Path, clock: Clock
) -> None:
    """All that changes something is answered with 405."""
    settings = Settings(data=tmp_path, audit="off")
    writes_of(settings).set_mark("moving", clock())
    statuses = answers(application(registry, settings))
    assert of_repositories(statuses, *WRITES) == {405}
    assert statuses["GET /_status"] == 200


def test_refusals_at_the_reserve(registry: Registry, answers: Answers) -> None:
    """All that adds something is answered with 403."""
    statuses = answers(application(registry, min_free="9999t"))
    assert of_repositories(statuses, "POST", "PATCH", "PUT") == {403}
    assert statuses["GET /_status"] == 200


def test_refusals_without_a_login(registry: Registry, catalog: Catalog, answers: Answers) -> None:
    """Operations on repositories are answered with a challenge."""
    statuses = answers(with_accounts(catalog, registry))
    assert of_repositories(statuses) == {401}


def test_refusals_without_a_permission(registry: Registry, catalog: Catalog, answers: Answers) -> None:
    """Operations on repositories are denied."""
    statuses = answers(with_accounts(catalog, registry), **basic("alice"))
    assert of_repositories(statuses) == {403}


def test_refusals_after_failed_logins(registry: Registry, catalog: Catalog, answers: Answers) -> None:
    """Operations on repositories are answered with 429."""
    statuses = answers(with_accounts(catalog, registry, login_limits="pair=1"), **basic("alice", "wrong"))
    assert of_repositories(statuses) == {429}


@pytest.mark.slow
def test_answers_while_the_database_is_gone(
    registry: Registry, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that needs it is answered with 503."""

    @contextmanager
    def fail(_: Catalog, **__: object) -> Iterator[Transaction]:
        raise OperationalError("", {}, Exception("the server closed the connection"))
        yield

    app = application(registry)
    for name in ("read", "begin"):
        monkeypatch.setattr(Catalog, name, fail)
    statuses = answers(app)
    assert {label for label, status in statuses.items() if status != 503} == {
        label for label in OPERATIONS if label.partition(" ")[2] in ABOUT_THE_API
    }


def test_every_status_of_an_error_is_described() -> None:
    """An error whose status no operation has is missing in the description."""
    described = {
        int(status)
        for item in DESCRIPTION["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict)
        for status in operation["responses"]
    }
    assert {rendering.status for rendering in V2_ERRORS.values()} <= described
