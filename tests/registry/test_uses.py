"""What keeps a blob is found and shown, by the shortest ways, whatever it is part of."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from dualreg.catalog.database import Catalog
from dualreg.errors import BlobUnknown
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.maintenance.gc import Collection
from dualreg.registry import Registry
from dualreg.registry.state import Retention
from dualreg.registry.uses import HOLDERS, PATHS, Holder, Kept
from tests import builders
from tests.conftest import Clock
from tests.properties.registries import push_v1, push_v2

NAME, OTHER, TAG = RepositoryName("team/app"), RepositoryName("other"), Tag("latest")
DAY = timedelta(hours=24)
IMAGE = builders.image(builders.layer({"a": b"a"}))
LAYER = Digest.of(IMAGE.layers[0])


def with_rule(registry: Registry, untagged: timedelta | None) -> Registry:
    """Return the registry with the setting ``gc_untagged``."""
    return registry.over(replace(registry.state, retention=Retention(DAY, untagged)))


def only(registry: Registry, digest: Digest, name: RepositoryName = NAME) -> Holder:
    """Return what keeps a blob in a repository."""
    (holder,) = registry.uses.explain(digest, name).repositories
    return holder


def words(holder: Holder) -> list[str]:
    """Return each path as one line."""
    return [" > ".join(f"{kind} {name}" for kind, name in path.steps) for path in holder.paths]


def put(registry: Registry, payload: bytes, media_type: str, tag: Tag | None = None) -> Digest:
    """Push a document under its tag or digest."""
    return registry.manifests.put(NAME, tag or Digest.of(payload), media_type, payload).manifest.digest


def test_the_paths_from_tags(registry: Registry) -> None:
    """Of an image with a tag that is also in an index, and of a referrer: the shortest path is first."""
    push_v2(registry, NAME, TAG, IMAGE)
    index = put(registry, builders.index(IMAGE), media_types.OCI_INDEX, Tag("all"))
    assert words(only(registry, LAYER)) == [
        f"tag latest > manifest {IMAGE.digest} > layer {LAYER}",
        f"tag all > manifest {index} > manifest {IMAGE.digest} > layer {LAYER}",
    ]
    empty = builders.image(oci=True)
    subject = builders.descriptor(media_types.OCI_INDEX, builders.index(IMAGE))
    payload = json.dumps(json.loads(empty.manifest) | {"subject": subject}).encode()
    registry.uploads.ingest(NAME, [empty.config])
    referrer = put(registry, payload, media_types.OCI_MANIFEST)
    config = Digest.of(empty.config)
    assert words(only(registry, config)) == [
        f"tag all > manifest {index} > referrer {referrer} > config {config}"
    ]


def test_the_paths_of_v1_images(registry: Registry) -> None:
    """The JSON of a base image is kept by what V1 clients see its child's manifest as."""
    chain = builders.v1_chain(*IMAGE.layers, builders.layer({"b": b"b"}))
    push_v1(registry, NAME, TAG, chain)
    manifest, json_ = registry.manifests.find(NAME, TAG).digest, Digest.of(chain[0].json)
    assert words(only(registry, json_)) == [
        f"tag latest > manifest {manifest} > V1 image {chain[1].id} > parent {chain[0].id} > JSON {json_}"
    ]
    registry.tags.delete(NAME, TAG)
    assert words(only(registry, json_))[0].startswith(f"manifest {manifest} > V1 image")


@pytest.mark.parametrize(
    ("rule", "kept", "lasts"),
    [(None, Kept.UNTAGGED, None), (timedelta(days=7), Kept.GRACE, timedelta(days=7))],
)
def test_a_manifest_without_a_tag(
    registry: Registry, clock: Clock, rule: timedelta | None, kept: Kept, lasts: timedelta | None
) -> None:
    """It is kept as the rule says, from when its tag was deleted, and its layer with it."""
    registry = with_rule(registry, rule)
    push_v2(registry, NAME, TAG, IMAGE)
    clock.advance(DAY)
    registry.tags.delete(NAME, TAG)
    (path,) = only(registry, LAYER).paths
    assert (path.kept, path.until) == (kept, lasts and clock() + lasts)
    assert words(only(registry, LAYER)) == [f"manifest {IMAGE.digest} > layer {LAYER}"]


def test_a_blob_that_nothing_uses_goes_when_that_is_said(registry: Registry, clock: Clock) -> None:
    """First its link, then its bytes, each at the time given before, and not earlier."""
    registry.uploads.ingest(NAME, [IMAGE.layers[0]])
    (path,) = only(registry, LAYER).paths
    assert (path.kept, [*path.steps]) == (Kept.GRACE, [("blob", str(LAYER))])
    assert path.until == clock() + DAY
    clock.instant = path.until - timedelta(seconds=1)
    Collection(registry).run()
    assert only(registry, LAYER)
    clock.instant = path.until
    Collection(registry).run()
    with pytest.raises(BlobUnknown):
        only(registry, LAYER)
    until = registry.uses.explain(LAYER).until
    assert until == clock() + DAY
    clock.instant = until
    Collection(registry).run()
    with pytest.raises(BlobUnknown):
        registry.uses.explain(LAYER)


def test_what_was_never_noted(registry: Registry, catalog: Catalog) -> None:
    """An unused link of an older version says that only a full collection finds it."""
    registry.uploads.ingest(NAME, [IMAGE.layers[0]])
    with catalog.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE repository_blobs SET candidate_since = NULL")
    (path,) = only(registry, LAYER).paths
    assert (path.kept, path.until) == (Kept.NOT_NOTED, None)


@pytest.mark.slow
def test_the_answer_is_bounded(registry: Registry) -> None:
    """Of many tags and many repositories, some are named, and the others are counted."""
    push_v2(registry, NAME, TAG, IMAGE)
    for number in range(PATHS + 2):
        registry.manifests.retag(
            NAME,
            Tag(f"t{number}"),
            IMAGE.digest,
            registry.tags.describe(NAME, limit=1, after=None, reader=None).rows[0].origin,
        )
    holder = only(registry, LAYER)
    assert (len(holder.paths), holder.more) == (PATHS, 3)
    for number in range(HOLDERS + 1):
        registry.blobs.mount(RepositoryName(f"fork/r{number}"), LAYER, NAME)
    found = registry.uses.explain(LAYER)
    assert (len(found.repositories), found.more) == (HOLDERS, 2)


@pytest.mark.slow
def test_a_diamond_of_indexes_costs_its_nodes(registry: Registry, catalog: Catalog) -> None:
    """Of 40 levels of two indexes that each name both below, each level is one step, not each path."""
    push_v2(registry, NAME, TAG, IMAGE)
    below = [builders.descriptor(IMAGE.media_type, IMAGE.manifest)]
    for level in range(40):
        documents = [diamond(below, f"{level} {side}") for side in range(2)]
        for document in documents:
            put(registry, document, media_types.OCI_INDEX)
        below = [builders.descriptor(media_types.OCI_INDEX, document) for document in documents]
    registry.tags.delete(NAME, TAG)
    put(registry, diamond(below, "top"), media_types.OCI_INDEX, Tag("top"))
    statements: list[str] = []
    event.listen(catalog.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    (path,) = only(registry, LAYER).paths
    assert (path.kept, len(path.steps)) == (Kept.TAG, 44)
    assert len(statements) < 44 * 8


def diamond(below: list[dict[str, Any]], node: str) -> bytes:
    """Return an index of what is below, like no other."""
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": below}
    return json.dumps(document | {"annotations": {"node": node}}).encode()
