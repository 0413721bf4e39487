"""What this registry derived is derived again once its file is lost or damaged; what was pushed is not."""

import bz2
import gzip
import json
import lzma
import re
from collections.abc import Callable, Iterator, Mapping

import pytest
from flask.testing import FlaskClient

from dualreg.catalog.rows import ManifestRow
from dualreg.errors import BlobDamaged, BlobMissing
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.layer import EMPTY_LAYER
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.registry import Registry
from tests import builders
from tests.apps import client_of
from tests.conftest import GuardedStore
from tests.properties.registries import push_v1, push_v2
from tests.protocol.clients import graph
from tests.protocol.clients.libtrust import verified
from tests.protocol.clients.schema1 import push_chain

NAME = RepositoryName("team/app")
LAYERS = [builders.layer({name: name.encode() * 90}) for name in "abc"]
PLAIN = [gzip.decompress(layer) for layer in LAYERS]
READERS: Mapping[str, Mapping[str, str]] = {
    "docker": {"Accept": media_types.DOCKER_MANIFEST},
    "lists": {"Accept": f"{media_types.DOCKER_MANIFEST}, {media_types.DOCKER_LIST}"},
    "oci": {"Accept": media_types.OCI_MANIFEST},
    "20.10": {
        "Accept": ", ".join(sorted(media_types.IMAGES | media_types.INDEXES)),
        "User-Agent": "docker/20.10.24",
    },
    "old": {"Accept": media_types.SCHEMA1_SIGNED},
}
Damage = Callable[[GuardedStore, Digest], None]


def _v2(registry: Registry) -> None:
    push_v2(registry, NAME, Tag("1"), builders.image(*LAYERS))
    push_v2(registry, NAME, Tag("2"), builders.image(LAYERS[0], oci=True))


def _index(registry: Registry) -> None:
    image = builders.image(*LAYERS)
    push_v2(registry, NAME, Tag("child"), image)
    registry.tags.delete(NAME, Tag("child"))
    listing = builders.index(image)
    registry.manifests.put(NAME, Tag("1"), media_types.OCI_INDEX, listing)


def _zstd(registry: Registry) -> None:
    image, other = builders.zstd_image(*LAYERS), builders.zstd_image(LAYERS[0], architecture="arm64")
    push_v2(registry, NAME, Tag("1"), image)
    push_v2(registry, NAME, Tag("2"), other)
    registry.manifests.put(NAME, Tag("both"), media_types.OCI_INDEX, builders.index(image, other))


def _schema1(registry: Registry) -> None:
    push_chain(registry, NAME, "1", builders.v1_chain(*LAYERS))
    push_chain(registry, NAME, "2", builders.v1_chain(*LAYERS[:2]))


def _v1(registry: Registry) -> None:
    layers = (LAYERS[0], PLAIN[1], bz2.compress(PLAIN[2]), lzma.compress(PLAIN[0]), gzip.compress(b""))
    push_v1(registry, NAME, Tag("1"), builders.v1_chain(*layers))


def _twins(registry: Registry) -> None:
    for seed in ("one", "two"):
        push_v1(registry, NAME, Tag(seed), builders.v1_chain(*LAYERS, seed=seed))


def _v1_on_v2(registry: Registry) -> None:
    _v2(registry)
    base = registry.bridge.tags(NAME)[Tag("2")]
    top = builders.v1_chain(LAYERS[2], seed="top")[0]
    document = json.dumps(json.loads(top.json) | {"parent": base}).encode()
    push_v1(registry, NAME, Tag("on"), [builders.V1Pushed(top.id, document, top.layer)])


def _replaced(registry: Registry) -> None:
    """Schema 1 that is converted before a V1 push over another id makes its images pushed ones."""
    chain = builders.v1_chain(*LAYERS)
    push_chain(registry, NAME, "1", graph.stored_chain(chain))
    push_v1(registry, RepositoryName("other/app"), Tag("1"), chain)


CONTENTS = (_v2, _index, _zstd, _schema1, _v1, _twins, _v1_on_v2, _replaced)


def lose(store: GuardedStore, digest: Digest) -> None:
    """Remove a file."""
    store.delete(digest)


def cut(store: GuardedStore, digest: Digest) -> None:
    """Cut a file."""
    store._blobs[digest] = store._blobs[digest][:-1]


def everything(client: FlaskClient) -> Mapping[str, bytes]:
    """Return all that clients of either generation are given, by URL."""
    return dict(_answers(client))


def _answers(client: FlaskClient) -> Iterator[tuple[str, bytes]]:
    for tag in client.get(f"/v2/{NAME}/tags/list").json["tags"]:  # type: ignore[index]  # a document
        for reader, accepted in READERS.items():
            answer = client.get(f"/v2/{NAME}/manifests/{tag}", headers=accepted)
            assert answer.status_code in (200, 404)
            named = re.findall(rb"sha256:[0-9a-f]{64}", answer.data) if answer.status_code == 200 else []
            body = verified(answer.data) if b'"signatures"' in answer.data else answer.data
            yield f"{tag} {reader}", body
            for digest in map(bytes.decode, named):
                if client.head(f"/v2/{NAME}/blobs/{digest}").status_code == 200:
                    yield digest, client.get(f"/v2/{NAME}/blobs/{digest}").data
    headers = {"Authorization": f'Token repository="{NAME}"'}
    for tag, image in client.get(f"/v1/repositories/{NAME}/tags").json.items():  # type: ignore[union-attr]
        yield f"V1 {tag}", image.encode()
        for ancestor in client.get(f"/v1/images/{image}/ancestry", headers=headers).json or ():
            for part in ("json", "layer"):
                yield f"{ancestor} {part}", client.get(f"/v1/images/{ancestor}/{part}", headers=headers).data


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lose, cut])
@pytest.mark.parametrize("fill", CONTENTS)
def test_what_was_derived_is_derived_again(
    registry: Registry, store: GuardedStore, fill: Callable[[Registry], None], damage: Damage
) -> None:
    """Every client gets the same bytes, and the store has them again."""
    fill(registry)
    pushed_before = {each.digest for each in store.walk()} - _made(registry)
    before = everything(client_of(registry))
    whole = {each.digest: each.size for each in store.walk()}
    derived = whole.keys() - pushed_before - _signed(registry) - {Digest.of(EMPTY_LAYER)}
    assert derived
    unread = {row.digest for row in _schema1_rows(registry)}  # clients get the signed form
    for digest in derived:
        damage(store, digest)
        fresh = registry.over(registry.state)
        if digest in unread:
            assert Digest.of(fresh.documents.read(digest)) == digest
        assert everything(client_of(fresh)) == before
        assert {each.digest: each.size for each in store.walk()} == whole


def _made(registry: Registry) -> set[Digest]:
    """Return what has been derived already, such as manifests, configs and layers of tagged V1 images."""
    blobs, pushed = set[Digest](), set[Digest]()
    for tag in registry.tags.list_all(NAME):
        row = registry.manifests.peek(NAME, tag)
        assert row
        blobs |= {blob.digest for blob in registry.derived.blobs(NAME, row.digest)}
        chain = registry.bridge.pushed_chain(NAME, row)
        image = registry.bridge.view_of(row)
        if chain and image:
            blobs |= {blob.digest for blob in registry.manifests.reachable_blobs(NAME, row.digest)}
            pushed |= {each.layer for each in registry.v1_images.ancestry(NAME, image) if each.layer}
    return blobs - pushed


def _signed(registry: Registry) -> set[Digest]:
    """Return the signed forms of schema 1: signatures differ each time."""
    signed = (registry.manifests.signed(row) for row in _schema1_rows(registry))
    return {each.digest for each in signed if each}


def _schema1_rows(registry: Registry) -> list[ManifestRow]:
    """Return the manifests of schema 1."""
    rows = registry.manifests.peek_all(NAME, [each.digest for each in registry.state.store.walk()])
    return [row for row in rows if row.media_type in media_types.SCHEMA1_TYPES]


@pytest.mark.parametrize("fill", [_schema1, _v2, _v1])
@pytest.mark.parametrize("damage", [lose, cut])
def test_signatures_are_made_again(
    registry: Registry, store: GuardedStore, damage: Damage, fill: Callable[[Registry], None]
) -> None:
    """With this registry's key, whoever signed before; the digest stays, and the new ones are kept."""
    fill(registry)
    path, accept = f"/v2/{NAME}/manifests/1", {"Accept": media_types.SCHEMA1_SIGNED}
    before = client_of(registry).get(path, headers=accept)
    row = registry.manifests.peek(NAME, Digest.parse(before.headers["Docker-Content-Digest"]))
    signed = row and registry.manifests.signed(row)
    assert signed
    damage(store, signed.digest)
    answers = [client_of(registry.over(registry.state)).get(path, headers=accept) for _ in range(2)]
    assert answers[0].data == answers[1].data != before.data
    assert verified(answers[0].data) == verified(before.data)
    assert answers[0].headers["Docker-Content-Digest"] == before.headers["Docker-Content-Digest"]


def test_what_was_pushed_is_lost(
    registry: Registry, store: GuardedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is found out once a minute; other tags are served, and it is served again once it was restored."""
    push_v1(registry, NAME, Tag("old"), builders.v1_chain(*LAYERS))
    push_v2(registry, NAME, Tag("new"), builders.image(LAYERS[0]))
    push_v2(registry, NAME, Tag("lost"), lost := builders.image(LAYERS[1]))
    config, json_ = Digest.of(lost.config), Digest.of(builders.v1_chain(*LAYERS)[0].json)
    lose(store, config)
    cut(store, json_)
    fresh = registry.over(registry.state)
    with pytest.raises(BlobMissing):
        fresh.documents.read(config)
    with pytest.raises(BlobDamaged):
        fresh.documents.read(json_)
    assert fresh.bridge.tags(NAME).keys() == {"old", "new"}
    monkeypatch.setattr(type(fresh.derived), "_attempts", lambda *_: pytest.fail("tried again"))
    assert fresh.derived.restore(config) is False
    registry.uploads.ingest(NAME, [lost.config])
    assert fresh.documents.read(config) == lost.config
    assert fresh.bridge.tags(NAME).keys() == {"old", "new", "lost"}


def test_a_json_that_other_images_have_too(registry: Registry, store: GuardedStore) -> None:
    """The JSON below the top is the same in each; one manifest that has it and can be read is enough."""
    for number in range(3):
        push_v2(registry, NAME, Tag(str(number)), builders.image(*LAYERS, author=str(number)))
    tops = registry.bridge.tags(NAME)
    rows = registry.v1_images.ancestry(NAME, ImageId(tops[Tag("0")]))
    for number in range(2):
        lose(store, Digest.of(builders.image(*LAYERS, author=str(number)).config))
    lose(store, rows[-1].json)
    assert (
        registry.over(registry.state).documents.read(rows[-1].json)
        == json.dumps({"id": rows[-1].id}, separators=(",", ":")).encode()
    )
