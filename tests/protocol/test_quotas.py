"""Quotas: what does not fit is refused over both APIs, before it is sent where that is possible."""

import json
from dataclasses import replace

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dualreg.catalog.rows import QuotaRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.storage.memory import MemoryStore
from tests import builders
from tests.apps import client_of
from tests.protocol.clients.graph import stored_chain
from tests.protocol.clients.libtrust import verified
from tests.protocol.clients.schema1 import push_chain
from tests.protocol.exchange import lone, payload_checksum, push_blob, push_image, v1_text, v2_codes

PATTERN, NAME = "team/*", "team/app"
BLOB = bytes(1000)
DIGEST = Digest.of(BLOB)
TOKEN = {"Authorization": f'Token repository="{NAME}"'}


def limit(registry: Registry, size: int, soft: int | None = None) -> int:
    """Set the quota; return what is used of it."""
    return registry.quotas.set(QuotaRow(PATTERN, size, soft))


def used(registry: Registry) -> int:
    """Return what is used, which must be what a count finds."""
    (quota,) = registry.quotas.list()
    assert registry.quotas.count(PATTERN) == quota.used
    return quota.used


def refused(answer: TestResponse, needed: int, taken: int, size: int) -> None:
    """Check an answer of V2, with its numbers."""
    assert (answer.status_code, v2_codes(answer)) == (403, ["DENIED"])
    text = json.loads(answer.data)["errors"][0]["message"]
    assert f"{NAME} needs {needed} bytes more" in text
    assert f"the quota {PATTERN} has used {taken} of {size} bytes" in text


def put(client: FlaskClient, image: builders.Image, tag: str = "1") -> TestResponse:
    """Push a manifest."""
    path = f"/v2/{NAME}/manifests/{tag}"
    return client.put(path, data=image.manifest, content_type=image.media_type)


@pytest.mark.parametrize("way", ["at once", "in one PUT", "in chunks"])
def test_a_blob_that_does_not_fit(
    client: FlaskClient, registry: Registry, store: MemoryStore, way: str
) -> None:
    """It is refused with the numbers, whichever way it comes, and nothing of it stays."""
    push_blob(client, NAME, b"x" * 10)
    assert limit(registry, 1009) == 10
    if way == "at once":
        answer = client.post(f"/v2/{NAME}/blobs/uploads/?digest={DIGEST}", data=BLOB)
    else:
        location = client.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
        sent = BLOB if way == "in one PUT" else b""
        if not sent:
            location = client.patch(location, data=BLOB).headers["Location"]
        joint = "&" if "?" in location else "?"
        answer = client.put(f"{location}{joint}digest={DIGEST}", data=sent)
    refused(answer, 1000, 10, 1009)
    assert store.stat(DIGEST) is None
    assert [*store.staged()] == [] or way == "in one PUT"  # of which the client may send another blob
    assert used(registry) == 10
    assert limit(registry, 1010) == 10
    push_blob(client, NAME, BLOB)
    assert used(registry) == 1010
    refused(client.post(f"/v2/{NAME}/blobs/uploads/"), 1, 1010, 1010)


def test_bytes_are_refused_before_they_are_sent(client: FlaskClient, registry: Registry) -> None:
    """A client that declares how many there are gets the answer without sending them."""
    limit(registry, 500)
    location = client.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    joint = "&" if "?" in location else "?"

    class Unread:
        """A body that must not be read."""

        at = 0

        def tell(self) -> int:
            return self.at

        def seek(self, offset: int, whence: int = 0) -> int:
            self.at = 1000 if whence else offset
            return self.at

        def read(self, *_: object) -> bytes:
            raise AssertionError("it was read")

        readline = __iter__ = read

    for method, path in (
        ("POST", f"/v2/{NAME}/blobs/uploads/?digest={DIGEST}"),
        ("PUT", f"{location}{joint}digest={DIGEST}"),
    ):
        answer = client.open(path, method=method, input_stream=Unread(), content_length=1000)
        refused(answer, 1000, 0, 500)


def test_a_blob_counts_once(client: FlaskClient, registry: Registry) -> None:
    """In all repositories of a quota together, pushed, mounted or pushed again; elsewhere not at all."""
    limit(registry, 1000)
    push_blob(client, "other", BLOB)
    assert used(registry) == 0
    for name in (NAME, NAME, "team/web"):
        push_blob(client, name, BLOB)
    mounted = client.post(f"/v2/team/third/blobs/uploads/?mount={DIGEST}&from={NAME}")
    assert mounted.status_code == 201
    assert used(registry) == 1000
    for name, left in ((NAME, 1000), ("team/web", 1000), ("team/third", 0)):
        assert client.delete(f"/v2/{name}/blobs/{DIGEST}").status_code == 202
        assert used(registry) == left


def test_a_mount_that_does_not_fit(client: FlaskClient, registry: Registry) -> None:
    """It is refused, rather than answered with an upload of what would not fit either."""
    push_blob(client, "other", BLOB)
    limit(registry, 999)
    refused(client.post(f"/v2/{NAME}/blobs/uploads/?mount={DIGEST}&from=other"), 1000, 0, 999)


def test_a_manifest_that_does_not_fit(client: FlaskClient, registry: Registry) -> None:
    """It needs its own bytes; with these, the tag is there. Then the client is warned by the soft limit."""
    image = builders.image(builders.layer({"a": b"1"}))
    push_image(client, NAME, image)
    before = limit(registry, 10**6)
    total = before + len(image.manifest)
    limit(registry, total - 1)
    refused(put(client, image), len(image.manifest), before, total - 1)
    assert client.get(f"/v2/{NAME}/manifests/1").status_code == 404
    limit(registry, total, total - 1)
    answer = put(client, image)
    assert answer.status_code == 201
    assert answer.headers["Warning"] == (f'299 - "{total} of {total} bytes of the quota {PATTERN} are used"')
    again = put(client, image, "2")
    assert (again.status_code, "Warning" in again.headers) == (201, False)
    assert "Warning" not in client.get(f"/v2/{NAME}/manifests/1").headers
    assert used(registry) == total


def test_deletes_make_room(client: FlaskClient, registry: Registry) -> None:
    """Of a manifest at once, of a repository too; a quota that was lowered refuses only what is new."""
    image = builders.image(builders.layer({"a": b"1"}))
    push_image(client, NAME, image, "1")
    full = limit(registry, 10**6)
    limit(registry, 1)
    assert put(client, image, "2").status_code == 201
    assert client.delete(f"/v2/{NAME}/manifests/{image.digest}").status_code == 202
    assert used(registry) == full - len(image.manifest)
    registry.repositories.delete(RepositoryName(NAME))
    assert used(registry) == 0


def test_v1_pushes_obey(client: FlaskClient, registry: Registry) -> None:
    """The layer that does not fit is refused with a text that V1 clients can show; so is the JSON."""
    image = lone("large", builders.layer({"a": bytes(range(256)) * 20}))
    path = f"/v1/images/{image.id}"
    limit(registry, len(image.json) + len(image.layer) - 1)
    assert client.put(f"{path}/json", data=image.json, headers=TOKEN).status_code == 200
    answer = client.put(f"{path}/layer", data=image.layer, headers=TOKEN)
    assert answer.status_code == 403
    assert f"{NAME} needs {len(image.layer)} bytes more" in v1_text(answer)
    assert used(registry) == len(image.json)
    limit(registry, 10**6)
    assert client.put(f"{path}/layer", data=image.layer, headers=TOKEN).status_code == 200
    sums = {"X-Docker-Checksum-Payload": payload_checksum(image)}
    assert client.put(f"{path}/checksum", headers=TOKEN | sums).status_code == 200
    limit(registry, used(registry))
    tagged = client.put(f"/v1/repositories/{NAME}/tags/1", json=image.id, headers=TOKEN)
    assert tagged.status_code == 403


def test_pulls_need_no_room(client: FlaskClient, registry: Registry) -> None:
    """What is made of images for other clients counts for no quota."""
    image = builders.zstd_image(builders.layer({"a": b"1"}))
    push_image(client, NAME, image, "1")
    full = limit(registry, 10**6)
    limit(registry, full)
    agent = {
        "User-Agent": "docker/20.10.24 go/go1.18",
        "Accept": "application/vnd.oci.image.manifest.v1+json",
    }
    assert client.get(f"/v2/{NAME}/manifests/1", headers=agent).status_code == 200
    assert client.get(f"/v1/repositories/{NAME}/tags", headers=TOKEN).status_code == 200
    assert registry.bridge.resolve(RepositoryName(NAME), Tag("1"))
    assert used(registry) == full


@pytest.mark.parametrize("is_pushed", [True, False])
def test_lost_signatures_need_no_room(registry: Registry, store: MemoryStore, *, is_pushed: bool) -> None:
    """Schema 1, pushed or made, is signed again by the next pull, which counts as little as any other."""
    old = {"User-Agent": "docker/1.8.3 go/go1.4.2 os/linux arch/amd64"}
    chain, path = builders.v1_chain(builders.layer({"a": b"1"})), f"/v2/{NAME}/manifests/1"
    if is_pushed:
        push_chain(registry, RepositoryName(NAME), "1", stored_chain(chain))
    else:
        push_image(client_of(registry), NAME, builders.image(chain[0].layer), "1")
    limit(registry, 10**6)
    answer = client_of(registry).get(path, headers=old)
    (before,) = registry.quotas.list()
    registry.quotas.set(replace(before, size=before.used or 0))
    store.delete(Digest.of(answer.data))
    again = client_of(registry.over(registry.state)).get(path, headers=old)
    assert again.status_code == 200
    assert again.data != answer.data
    assert verified(again.data) == verified(answer.data)
    (after,) = registry.quotas.list()
    assert after.used == before.used


def test_two_quotas(client: FlaskClient, registry: Registry) -> None:
    """The narrower one may be used up while there is room in the wider one, and the reverse."""
    registry.quotas.set(QuotaRow("*", 1500))
    limit(registry, 1000)
    push_blob(client, NAME, BLOB)
    assert client.post(f"/v2/{NAME}/blobs/uploads/").status_code == 403
    push_blob(client, "other", b"y" * 500)
    assert client.post("/v2/other/blobs/uploads/").status_code == 403
    registry.quotas.remove("*")
    push_blob(client, "other", b"z" * 500)


def test_a_quota_for_nothing(registry: Registry) -> None:
    """Invalid patterns and soft limits are refused."""
    patterns = ("", "a?", "a" * 256, "Team/*", "team/* ")
    for quota in (QuotaRow("a*", 1, 2), *(QuotaRow(pattern, 1) for pattern in patterns)):
        with pytest.raises(ValueError, match=r"invalid|soft|not supported"):
            registry.quotas.set(quota)
    with pytest.raises(ValueError, match="no quota"):
        registry.quotas.remove("a")
    assert registry.quotas.list() == []
