"""What the digests are good for that clients are given by tag: every client, of every kind of image."""

import errno
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dualreg.catalog.tables import SigningKeys
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry, schema1_editions
from tests import builders
from tests.apps import client_of
from tests.conftest import GuardedStore
from tests.properties.registries import push_v1, push_v2
from tests.protocol.clients.libtrust import verified
from tests.protocol.clients.schema1 import push_chain
from tests.protocol.clients.v2 import DOCKER, DOCKER_1_10, IMAGES_ONLY, OCI

NAME, TAG, OTHER = RepositoryName("team/app"), Tag("latest"), Tag("other")
LAYERS = [builders.layer({name: name.encode() * 900}) for name in "ab"]
SYSTEM = "go/go1.18 git-commit/x kernel/5.15 os/linux arch/amd64"
#: The headers of each kind of client.
CLIENTS: Mapping[str, Mapping[str, str]] = {
    **{each: {"User-Agent": f"docker/{each} {SYSTEM}"} for each in ("1.6.2", "1.7.1", "1.8.3", "1.9.1")},
    "1.9.1 on arm": {"User-Agent": "docker/1.9.1 go/go1.4 kernel/3 os/linux arch/arm64"},
    "schema 1": {"Accept": media_types.SCHEMA1_SIGNED},
    **{
        each: {"Accept": ", ".join(types), "User-Agent": f"docker/{each} {SYSTEM}"}
        for each, types in (("1.10.3", DOCKER_1_10), ("17.09.1-ce", DOCKER_1_10), ("20.10.24", DOCKER))
    },
    "28.0.0": {"Accept": ", ".join(DOCKER), "User-Agent": f"docker/28.0.0 {SYSTEM}"},
    "docker types": {"Accept": ", ".join(DOCKER_1_10[2:])},
    "oci types": {"Accept": ", ".join(OCI)},
    "images": {"Accept": ", ".join(IMAGES_ONLY)},
    "curl": {},
}
OLD = CLIENTS["1.9.1"]
EVERY_TYPE = {
    "Accept": ", ".join((*media_types.SCHEMA1_TYPES, *media_types.IMAGES, *media_types.INDEXES, "*/*"))
}


def _pushed(**chosen: Any) -> Callable[[Registry], None]:
    return lambda registry: _push(registry, builders.image(*LAYERS, **chosen))


def _push(registry: Registry, image: builders.Image) -> None:
    push_v2(registry, NAME, TAG, image)


def _index(registry: Registry, *, docker: bool = False) -> None:
    make = builders.image if docker else builders.zstd_image
    images = [make(*LAYERS), make(LAYERS[0], architecture="arm64")]
    for image in images:
        _push(registry, image)
    media_type = media_types.DOCKER_LIST if docker else media_types.OCI_INDEX
    document = json.loads(builders.index(*images)) | {"mediaType": media_type}
    registry.manifests.put(NAME, TAG, media_type, json.dumps(document).encode())


#: Pushes each kind of image.
IMAGES: Mapping[str, Callable[[Registry], None]] = {
    "docker": _pushed(),
    "oci": _pushed(oci=True),
    "without history": _pushed(history=[]),
    "zstd": lambda registry: _push(registry, builders.zstd_image(*LAYERS)),
    "list": lambda registry: _index(registry, docker=True),
    "index": _index,
    "schema 1": lambda registry: push_chain(registry, NAME, TAG, builders.v1_chain(*LAYERS)),
    "V1": lambda registry: push_v1(registry, NAME, TAG, builders.v1_chain(*LAYERS)),
}


def get(client: FlaskClient, reference: str, headers: Mapping[str, str], status: int = 200) -> TestResponse:
    """Get a manifest, after HEAD has promised the very same."""
    path = f"/v2/{NAME}/manifests/{reference}"
    head, answer = client.head(path, headers=headers), client.get(path, headers=headers)
    assert (head.status_code, answer.status_code) == (status, status)
    assert dict(head.headers) == dict(answer.headers)
    return answer


def require_given(client: FlaskClient, given: Mapping[str, TestResponse]) -> None:
    """Assert that what clients were given by tag can be pulled by its digest, by them and by all others."""
    for name, answer in given.items():
        digest = answer.headers["Docker-Content-Digest"]
        for headers in (CLIENTS[name], EVERY_TYPE):
            again = get(client, digest, headers)
            assert (again.data, again.content_type) == (answer.data, answer.content_type)
            assert again.headers["Docker-Content-Digest"] == digest
        asked = {**CLIENTS[name], "If-None-Match": f'"{digest}"'}
        assert get(client, digest, asked, 304).data == b""
        named = {layer["blobSum"] for layer in json.loads(answer.data).get("fsLayers", ())}
        assert all(client.head(f"/v2/{NAME}/blobs/{each}").status_code == 200 for each in named)


def rotate_key(registry: Registry) -> None:
    """Retire the key that signs schema 1."""
    with registry.state.catalog.begin() as tx:
        tx.connection.execute(SigningKeys.__table__.delete())


@pytest.mark.slow
@pytest.mark.parametrize("image", IMAGES)
def test_every_digest_that_was_given_can_be_pulled(registry: Registry, image: str) -> None:
    """By the same client and others, as the same bytes.

    That is at once, after a restart, with another key, after the tag has moved, and without the tag.
    """
    IMAGES[image](registry)
    client = client_of(registry)
    given = {name: get(client, TAG, headers) for name, headers in CLIENTS.items()}
    for name, answer in given.items():
        if "schema 1" in name or name.startswith(("1.6", "1.7", "1.8", "1.9")):
            payload = verified(answer.data)
            assert answer.headers["Docker-Content-Digest"] == str(Digest.of(payload))
            assert (json.loads(payload)["name"], json.loads(payload)["tag"]) == (NAME, TAG)
        assert get(client, TAG, CLIENTS[name]).data == answer.data
    require_given(client, given)
    rotate_key(registry)
    client = client_of(registry.over(registry.state))
    for name, answer in given.items():
        assert get(client, TAG, CLIENTS[name]).data == answer.data
    push_v2(registry, NAME, TAG, builders.image(LAYERS[0]))
    require_given(client, given)
    registry.tags.delete(NAME, TAG)
    require_given(client, given)
    assert client.get(f"/v2/{NAME}/tags/list").json["tags"] == []  # type: ignore[index]  # a document
    for answer in given.values():
        digest = answer.headers["Docker-Content-Digest"]
        assert client.get(f"/v2/{NAME}/referrers/{digest}").json["manifests"] == []  # type: ignore[index]


def test_each_tag_has_its_own(client: FlaskClient, registry: Registry) -> None:
    """Its name is signed, so the digests differ; names that differ in case alone are two."""
    IMAGES["oci"](registry)
    row = registry.manifests.find(NAME, TAG)
    tags = [TAG, Tag("Latest"), Tag("x" * 128)]
    registry.manifests.put(NAME, row.digest, row.media_type, registry.manifests.payload(row), tags=tags)
    given = {tag: get(client, tag, OLD) for tag in tags}
    assert len({answer.headers["Docker-Content-Digest"] for answer in given.values()}) == len(tags)
    for tag, answer in given.items():
        assert json.loads(verified(answer.data))["tag"] == tag
        assert get(client, answer.headers["Docker-Content-Digest"], OLD).data == answer.data


def test_how_many_are_stored(
    client: FlaskClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts for no quota is bounded: further tags of an image are pulled by tag only."""
    monkeypatch.setattr(schema1_editions, "_STORED", 2)
    IMAGES["oci"](registry)
    row = registry.manifests.find(NAME, TAG)
    tags = [Tag(name) for name in "abc"]
    registry.manifests.put(NAME, row.digest, row.media_type, registry.manifests.payload(row), tags=tags)
    digests = [get(client, tag, OLD).headers["Docker-Content-Digest"] for tag in tags]
    assert [client.get(f"/v2/{NAME}/manifests/{each}").status_code for each in digests] == [200, 200, 404]
    assert [get(client, tag, OLD).headers["Docker-Content-Digest"] for tag in tags] == digests


@pytest.mark.parametrize("fault", ["mark", "disk"])
def test_what_cannot_be_stored_is_sent_all_the_same(
    registry: Registry, store: GuardedStore, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """HEAD and GET agree in each process; when it can be stored, it has the same digest."""
    IMAGES["docker"](registry)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as failing:
        if fault == "disk":
            failing.setattr(store, "stage", refuse)
        marked = replace(registry.rules, require_room=refuse) if fault == "mark" else registry.rules
        client = client_of(Registry.build(registry.state, marked))
        answers = [get(client, TAG, OLD) for _ in range(2)]
        digest = answers[0].headers["Docker-Content-Digest"]
        assert answers[0].data == answers[1].data
        assert str(Digest.of(verified(answers[0].data))) == digest
        get(client, digest, OLD, 404)
    kept = get(client_of(registry), TAG, OLD)
    assert kept.headers["Docker-Content-Digest"] == digest
    assert get(client_of(registry.over(registry.state)), digest, OLD).data == kept.data


@pytest.mark.parametrize("image", ["docker", "zstd", "V1"])
def test_deleting_schema_1_deletes_its_image(client: FlaskClient, registry: Registry, image: str) -> None:
    """With its tags, as for every other edition; with a tag of its own, it is an image like any other."""
    IMAGES[image](registry)
    stored = registry.manifests.find(NAME, TAG)
    made = get(client, TAG, OLD)
    path = f"/v2/{NAME}/manifests/{made.headers['Docker-Content-Digest']}"
    assert client.delete(path, headers={"If-Match": '"sha256:0"'}).status_code == 412
    assert client.delete(path).status_code == 202
    for reference in (TAG, str(stored.digest), made.headers["Docker-Content-Digest"]):
        get(client, reference, EVERY_TYPE, 404)
    assert client.delete(path).status_code == 404
    if image == "V1":  # whose images stay, and are tagged again
        registry.bridge.tag(NAME, TAG, builders.v1_chain(*LAYERS)[-1].id)
    else:
        IMAGES[image](registry)
    assert get(client, TAG, OLD).headers["Docker-Content-Digest"] == made.headers["Docker-Content-Digest"]
    registry.manifests.put(NAME, OTHER, made.content_type, made.data)
    assert client.delete(path).status_code == 202
    assert registry.manifests.find(NAME, TAG).digest == stored.digest


def test_what_an_index_lists_is_not_deleted_by_schema_1(client: FlaskClient, registry: Registry) -> None:
    """As by the digest of the image itself: the index is deleted first."""
    IMAGES["index"](registry)
    made = get(client, TAG, OLD).headers["Docker-Content-Digest"]
    path, index = f"/v2/{NAME}/manifests/{made}", registry.manifests.find(NAME, TAG).digest
    assert client.delete(path).status_code == 405
    assert get(client, made, OLD)
    assert client.delete(f"/v2/{NAME}/manifests/{index}").status_code == 202
    assert client.delete(path).status_code == 202
    get(client, made, OLD, 404)


def test_signatures_of_clients_stay(registry: Registry) -> None:
    """Of schema 1 that a client has pushed to another tag, and that is the same as what is made."""
    IMAGES["docker"](registry)
    made = get(client_of(registry), TAG, OLD)
    registry.manifests.delete(NAME, registry.manifests.find(NAME, TAG).digest)
    registry.manifests.put(NAME, OTHER, made.content_type, made.data)
    rotate_key(registry)
    IMAGES["docker"](registry)
    assert get(client_of(registry.over(registry.state)), TAG, OLD).data == made.data


def test_who_pulls_schema_1_by_digest_learns_of_the_image(client: FlaskClient, registry: Registry) -> None:
    """That it was made of, if the client names its type."""
    IMAGES["oci"](registry)
    made = get(client, TAG, OLD).headers["Docker-Content-Digest"]
    image = registry.manifests.find(NAME, TAG).digest
    warned = get(client, made, {"Accept": media_types.OCI_MANIFEST}).headers["Warning"]
    assert warned.endswith(f'pull {image} instead"')
    for headers in (OLD, {"Accept": media_types.DOCKER_MANIFEST}):
        assert "Warning" not in get(client, made, headers).headers
