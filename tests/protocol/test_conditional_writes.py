"""Several tags in one push, and writes that only happen if no other client wrote before.

Source: OCI distribution-spec, "Pushing Manifests", ``?tag=``; RFC 9110, "If-Match", "If-None-Match".
"""

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dualreg.registry import Registry
from tests.apps import client_of
from tests.builders import Image, image, layer
from tests.state import snapshot

OLD, NEW = (image(layer({"a": text}), oci=True) for text in (b"old", b"new"))


def put(client: FlaskClient, pushed: Image, reference: str, **headers: str) -> TestResponse:
    """Push a manifest whose blobs were pushed before."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.put(
        f"/v2/t/x/manifests/{reference}", data=pushed.manifest, content_type=pushed.media_type, headers=names
    )


@pytest.fixture
def pushed(client: FlaskClient) -> FlaskClient:
    """A repository whose tag ``now`` is OLD, and which holds what NEW needs."""
    for blobs in (OLD.blobs, NEW.blobs):
        for digest, data in blobs.items():
            assert client.post(f"/v2/t/x/blobs/uploads/?digest={digest}", data=data).status_code == 201
    assert put(client, OLD, "now").status_code == 201
    return client


def test_several_tags_at_once(pushed: FlaskClient) -> None:
    """Every tag of the query points at the manifest afterwards, and the answer names each of them once."""
    answer = put(pushed, NEW, f"{NEW.digest}?tag=a&tag=b&tag=a")
    assert (answer.status_code, answer.headers["OCI-Tag"]) == (201, "a, b")
    assert pushed.get("/v2/t/x/tags/list").json["tags"] == ["a", "b", "now"]
    assert pushed.get("/v2/t/x/manifests/b").data == NEW.manifest


@pytest.mark.parametrize(
    ("reference", "status"),
    [
        (f"{NEW.digest}?tag=a&tag=.bad", 400),
        ("c?tag=a", 400),
        (f"{NEW.digest}?" + "&".join(f"tag=t{number}" for number in range(33)), 414),
    ],
)
def test_all_tags_or_none(pushed: FlaskClient, registry: Registry, reference: str, status: int) -> None:
    """A request with a tag that cannot be taken changes nothing."""
    before = snapshot(registry)
    assert put(pushed, NEW, reference).status_code == status
    assert snapshot(registry) == before


@pytest.mark.parametrize(
    ("reference", "headers", "status"),
    [
        ("now", {"If_Match": f'"{OLD.digest}"'}, 201),
        ("now", {"If_Match": f"{OLD.digest}"}, 201),
        ("now", {"If_Match": f'"{NEW.digest}", "{OLD.digest}"'}, 201),
        ("now", {"If_Match": "*"}, 201),
        ("now", {"If_Match": f'"{NEW.digest}"'}, 412),
        ("new", {"If_Match": "*"}, 412),
        ("new", {"If_None_Match": "*"}, 201),
        ("now", {"If_None_Match": "*"}, 412),
        ("now", {"If_None_Match": f'"{NEW.digest}"'}, 201),
        (str(NEW.digest), {"If_None_Match": "*"}, 201),
    ],
)
def test_conditional_put(
    pushed: FlaskClient, registry: Registry, reference: str, headers: dict[str, str], status: int
) -> None:
    """A manifest is written only if its reference is what the client expects; else nothing changes."""
    before = snapshot(registry)
    assert put(pushed, NEW, reference, **headers).status_code == status
    assert (snapshot(registry) == before) == (status == 412)


@pytest.mark.parametrize(
    ("reference", "expected", "status"),
    [
        ("now", OLD.digest, 202),
        ("now", NEW.digest, 412),
        (str(OLD.digest), OLD.digest, 202),
        (str(OLD.digest), NEW.digest, 412),
        ("never", OLD.digest, 412),
    ],
)
def test_conditional_delete(pushed: FlaskClient, reference: str, expected: str, status: int) -> None:
    """A tag or manifest is deleted only if it is what the client expects."""
    answer = pushed.delete(f"/v2/t/x/manifests/{reference}", headers={"If-Match": f'"{expected}"'})
    assert answer.status_code == status
    assert pushed.get("/v2/t/x/manifests/now").status_code == (404 if status == 202 else 200)


@pytest.mark.parametrize(("algorithm", "status"), [("sha256", 202), ("sha512", 202), ("md5", 400)])
def test_digest_algorithm(client: FlaskClient, algorithm: str, status: int) -> None:
    """An upload that announces an algorithm which is not offered is refused before any byte is sent."""
    assert client.post(f"/v2/t/x/blobs/uploads/?digest-algorithm={algorithm}").status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "/v2/t/x/manifests/now",
        f"/v2/t/x/manifests/{OLD.digest}",
        f"/v2/t/x/blobs/{next(iter(NEW.blobs))}",
        "/v1/repositories/t/x/tags/now",
        "/v1/repositories/t/x/tags",
        "/v1/repositories/t/x/",
    ],
)
def test_deleting_can_be_switched_off(pushed: FlaskClient, registry: Registry, path: str) -> None:
    """With ``delete`` off nothing can be deleted through either dialect; uploads can still be cancelled."""
    locked = client_of(registry, delete=False)
    before = snapshot(registry)
    assert locked.delete(path).status_code == 405
    assert snapshot(registry) == before
    upload = locked.post("/v2/t/x/blobs/uploads/").headers["Location"]
    assert locked.delete(upload).status_code == 204
    assert pushed.delete(path).status_code in (200, 202)
