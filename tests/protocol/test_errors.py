"""Errors: each has its rendering in both dialects, and failures of the registry reveal nothing."""

import json
import os
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from dualreg import errors
from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.storage.memory import MemoryStore
from dualreg.web import context, v1, v2
from dualreg.web.v1.errors import V1_ERRORS
from dualreg.web.v2.errors import V2_ERRORS
from tests import builders
from tests.apps import application
from tests.properties.registries import push_v2
from tests.protocol.exchange import CODES, REPOSITORY, TOKEN, World, push_blob, v1_text, v2_codes


def descendants(of: type[RegistryError]) -> Iterator[type[RegistryError]]:
    """Yield every error below *of*."""
    for child in of.__subclasses__():
        yield child
        yield from descendants(child)


ALL = sorted({*descendants(RegistryError)}, key=lambda error: error.__name__)
#: A value for each field that is not text.
SAMPLES: dict[str, Any] = {
    "offset": 3,
    "scope": "repository:a/b:pull",
    "retry_after": 9,
    "limit": 7,
    "promised": 1,
    "declared": 2,
    "received": 3,
    "stored": 4,
    "stated": 5,
    "status": 502,
    "digests": ["sha256:x"],
    "referrers": ["sha256:y", "sha256:z"],
}


def sample(error: type[RegistryError], *, optional: bool = True) -> RegistryError:
    """Return an error with all its fields set, or only those that it must have."""
    names = [field.name for field in fields(error) if optional or field.default is MISSING]
    return error(**{name: SAMPLES.get(name, f"some {name}") for name in names})


def test_both_tables_are_total() -> None:
    """No error is forgotten, and none is listed that is not raised."""
    assert set(V1_ERRORS) == set(V2_ERRORS) == set(ALL)


def test_errors_that_are_our_fault_are_none_of_the_clients() -> None:
    """Damage is not a RegistryError: it must not be mistaken for something a client did."""
    for fault in (errors.BlobMissing, errors.BlobDamaged):
        assert not issubclass(fault, RegistryError)


@pytest.mark.parametrize("error", ALL)
def test_the_statuses_of_both_dialects_agree(error: type[RegistryError]) -> None:
    """The same fact is as bad in both, with two exceptions.

    V1 clients must send images again that are on their way. They name tags in the body, and V2 clients in the
    URL.
    """
    exceptions = {errors.ImageIncomplete: 400, errors.TooManyTags: 413}
    code, status = V2_ERRORS[error]
    assert code in CODES
    others = (errors.DownloadFailed, errors.UpstreamBusy, errors.UpstreamFailed, errors.IssuerUnavailable)
    ours = error not in (errors.ServerStopping, *others)
    assert 400 <= status < (500 if ours else 504)
    assert V1_ERRORS[error] == exceptions.get(error, status)


@pytest.mark.parametrize("error", ALL)
def test_every_error_renders(app: Flask, error: type[RegistryError]) -> None:
    """V2: a list of codes, messages and details. V1: one flat text, and of a bad range nothing."""
    code, status = V2_ERRORS[error]
    with app.test_request_context("/v2/a/b/tags/list"):
        response = v2.errors.render(sample(error))
        entries = json.loads(response.data)["errors"]
        assert (response.status_code, [entry["code"] for entry in entries]) == (status, [code])
        assert entries[0]["message"].startswith(error.message)
        assert isinstance(entries[0].get("detail", ""), str | list | dict)
        assert ("Allow" in response.headers) == (status == 405)
    with app.test_request_context("/v1/images/x/json"):
        response = v1.errors.render(sample(error))
        assert response.status_code == V1_ERRORS[error]
        if error is errors.RangeInvalid:
            assert response.data == b""
            return
        (text,) = json.loads(response.data).values()
        own = {errors.RepositoryUnknown: "Repository not found"}
        reasoned = error in (errors.ImageInvalid, errors.RequestInvalid)
        assert text.startswith("some reason" if reasoned else own.get(error, error.message))


@pytest.mark.parametrize("error", ALL)
def test_every_error_renders_without_optional_details(app: Flask, error: type[RegistryError]) -> None:
    """Optional fields that are not set are left out; required ones never are."""
    bare = sample(error, optional=False)
    with app.test_request_context("/v2/"):
        (entry,) = json.loads(v2.errors.render(bare).data)["errors"]
        assert (entry["code"], entry["message"]) == (V2_ERRORS[error].code, str(bare))
    with app.test_request_context("/v1/_ping"):
        assert isinstance(json.loads(v1.errors.render(bare).data or b'{"error": ""}')["error"], str)


def test_texts_that_old_clients_know() -> None:
    """Docker compares the first with ``==``; the others are docker-registry's own."""
    assert errors.ImageExists.message == "Image already exists"
    assert errors.ImageUnknown.message == "Image not found"
    assert errors.ImageIncomplete.message == "Image is being uploaded, retry later"
    assert errors.ChecksumMismatch.message == "Checksum mismatch"
    assert errors.TagUnknown.message == "Tag not found"
    assert errors.Unauthenticated.message == "Requires authorization"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.Unauthenticated(), "Requires authorization: log in"),
        (errors.TagUnknown(tag="x"), "Tag not found: x"),
        (errors.PageInvalid(n=""), 'invalid page requested: n="" is not a decimal number'),
        (errors.TagUnknown(tag="a\n\x1b[1mb"), 'Tag not found: "a\\n\\u001b[1mb"'),
        (errors.ManifestInvalid(reason="not JSON"), "manifest invalid: not JSON"),
        (
            errors.ManifestInvalid(reason="not a media type", media_type="x"),
            "manifest invalid: not a media type, media type x",
        ),
        (errors.TooManyAttempts(retry_after=7), "too many failed logins: retry in 7 seconds"),
        (
            errors.SizeMismatch(digest="sha256:x", stored=1, stated=2),
            "provided length did not match content length: sha256:x has 1 bytes, but the manifest states 2",
        ),
        (
            errors.Denied(account="eve", repository="team/app", action="push"),
            "requested access to the resource is denied: eve lacks push on repository team/app",
        ),
        (
            errors.BlobInUse(digest="sha256:x", referrers=["sha256:y", "sha256:z"]),
            "blob is in use: sha256:x is part of manifest sha256:y, sha256:z: delete that first",
        ),
        (
            errors.BlobInUse(digest="sha256:x", referrers=["f" * 64]),
            f"blob is in use: sha256:x is part of V1 image {'f' * 64}: delete that first",
        ),
        (
            errors.ManifestInUse(digest="sha256:x", referrers=[], tags=["a", "b", "c", "d", "e"]),
            "manifest is in use: sha256:x has tags a, b, c and 2 more: delete that first",
        ),
        (
            errors.PreconditionFailed(current=None),
            "precondition failed: there is no such manifest now",
        ),
    ],
)
def test_the_text_of_an_error_is_one_line_for_logs_and_terminals(error: RegistryError, text: str) -> None:
    """The message, then the facts: the reason and the first text as they are, the others with their names."""
    assert str(error) == text


def test_an_optional_fact_is_left_out_and_a_required_one_is_null() -> None:
    """That a tag does not exist is stated in a failed precondition."""
    assert errors.PreconditionFailed(current=None).facts() == {"current": None}
    assert errors.BodyTruncated(received=3).facts() == {"received": 3}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/x", 404),
        ("GET", "/v2/a/b/blobs/", 404),
        ("GET", "/v2//tags/list", 404),
        ("GET", "/v2/a/manifests/b/c", 404),
        ("GET", "/v2/a/blobs/uploads/", 405),
        ("POST", "/v2/a/tags/list", 405),
        ("DELETE", "/v2/_catalog", 405),
        ("PUT", "/v2/", 405),
        ("POST", "/v2/a/manifests/x", 405),
        ("BREW", "/v2/", 405),
    ],
)
def test_v2_requests_that_no_route_takes(client: FlaskClient, method: str, path: str, status: int) -> None:
    """The V2 form, with the API's header and, if another method would do, Allow."""
    response = client.open(path, method=method)
    assert (response.status_code, v2_codes(response)) in [
        (status, ["UNSUPPORTED"]),
        (400, ["DIGEST_INVALID"]),
    ]
    assert ("Allow" in response.headers) == (response.status_code == 405)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/", 404),
        ("GET", "/v1/_nothing", 404),
        ("GET", "/v1/images/x/nothing", 404),
        ("POST", "/v1/_ping", 405),
        ("POST", "/v1/images/x/json", 405),
        ("GET", "/v1/repositories/a/b", 405),
        ("POST", "/v1/search", 405),
    ],
)
def test_v1_requests_that_no_route_takes(client: FlaskClient, method: str, path: str, status: int) -> None:
    """The V1 form, flat."""
    response = client.open(path, method=method)
    assert response.status_code == status
    assert v1_text(response) == {404: "Not Found", 405: "Method Not Allowed"}[status]
    assert ("Allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("path", ["/favicon.ico", "/v3/", "/v1", "/_pong"])
def test_paths_of_no_dialect(client: FlaskClient, path: str) -> None:
    """A 404 all the same."""
    response = client.get(path)
    assert (response.status_code, response.headers["X-Content-Type-Options"]) == (404, "nosniff")


@pytest.mark.parametrize("path", [f"/v2/{REPOSITORY}/blobs/{{}}", "/v1/images/{}/layer"])
def test_a_busy_server_answers_like_any_other(registry: Registry, path: str) -> None:
    """A response that gets no slot is replaced by a refusal, with all headers that responses have."""
    repository, tag = RepositoryName(REPOSITORY), Tag("latest")
    layer = builders.layer({"a": os.urandom(10_000)})
    push_v2(registry, repository, tag, builders.image(layer))
    app = application(registry, threads=1, cors_origins="https://ui.example")
    with app.app_context():
        release = context.slots().take("")
    named = registry.bridge.resolve(repository, tag) if "/v1/" in path else Digest.of(layer)
    headers = TOKEN | {"Origin": "https://ui.example"}
    refused = app.test_client().get(path.format(named), headers=headers)
    release()
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    assert refused.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in refused.headers["Content-Security-Policy"]
    assert ("Access-Control-Allow-Origin" in refused.headers) == path.startswith("/v2/")


def test_the_root_greets(client: FlaskClient) -> None:
    """A person with a browser learns what this is."""
    response = client.get("/")
    assert (response.status_code, response.mimetype) == (200, "text/plain")
    assert response.text.startswith("dualreg ")


@pytest.mark.parametrize("agent", ["Go 1.1 package http", "docker/1.5.0 go/go1.4.1"])
@pytest.mark.parametrize("path", ["/v2/", "/v2", "/v2/x", "/v2/a/tags/list", "/v2/a/blobs/uploads/"])
def test_old_clients_never_see_the_header(client: FlaskClient, agent: str, path: str) -> None:
    """Not even on an error: 401 and 200 are not the only answers they look at."""
    response = client.get(path, headers={"User-Agent": agent})
    assert response.status_code >= 400
    assert "Docker-Distribution-Api-Version" not in response.headers


def test_damage_is_healed_by_pushing_again(fresh_world: World, store: MemoryStore) -> None:
    """Verified bytes replace missing ones."""
    layer = fresh_world.chain[0].layer
    store.delete(Digest.of(layer))
    push_blob(fresh_world.client, "other", layer)
    got = fresh_world.client.get(f"/v2/{REPOSITORY}/blobs/{Digest.of(layer)}")
    assert (got.status_code, got.data) == (200, layer)
