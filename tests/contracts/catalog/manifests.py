"""Manifests, and what they name."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import ManifestRow, Origin
from dualreg.catalog.tables import ManifestChildren, Manifests, ManifestViews, MissingChildren, V1Images
from dualreg.image import media_types
from dualreg.image.formats import Role
from dualreg.image.manifest import parse
from dualreg.image.names import Tag
from tests.builders import image, index, layer
from tests.conftest import Clock
from tests.contracts.catalog.rows import (
    CONFIG,
    IMAGE,
    MANIFEST,
    NAME,
    OTHER,
    artifact,
    count,
    image_id,
    link,
    push,
    record,
    v1_row,
)


class ManifestsContract:
    """Manifests, and what they name."""

    def test_a_manifest_is_found_by_tag_and_digest(self, catalog: Catalog) -> None:
        """In its own repository only, with media type and size."""
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "v1")
            tx.repositories.ensure(OTHER)
            row = ManifestRow(repository_id, MANIFEST.digest, IMAGE.media_type, len(IMAGE.manifest))
            assert tx.manifests.find(NAME, Tag("v1")) == replace(row, origin=Origin.V2)
            assert tx.manifests.find(NAME, MANIFEST.digest) == row
            assert tx.manifests.find(NAME, Tag("v2")) is None
            assert tx.manifests.find(NAME, CONFIG) is None
            assert tx.manifests.find(OTHER, MANIFEST.digest) is None
            assert tx.manifests.find(OTHER, Tag("v1")) is None
            assert tx.manifests.lock_existing(repository_id, [MANIFEST.digest, CONFIG]) == {MANIFEST.digest}
            assert tx.manifests.lock_existing(repository_id, []) == frozenset()
            assert tx.manifests.lock(repository_id, MANIFEST.digest) is True
            assert tx.manifests.lock(repository_id, CONFIG) is False

    def test_recording_twice_changes_nothing(self, catalog: Catalog, clock: Clock) -> None:
        """A manifest that is pushed again keeps its date and children; duplicates among them count once."""
        twice = image(*[layer({"a": b"1"})] * 2)
        manifest = parse(twice.media_type, twice.manifest)
        pushed_at = clock.instant
        for _ in range(2):
            with catalog.begin() as tx:
                record(tx, tx.repositories.ensure(NAME).id, manifest, *twice.blobs.values())
            clock.advance(timedelta(hours=1))
        with catalog.read() as tx:
            connection = tx.manifests.connection
            assert connection.scalars(select(Manifests.pushed_at)).all() == [pushed_at]
            children = connection.execute(
                select(ManifestChildren.role, ManifestChildren.position).order_by(ManifestChildren.position)
            )
            assert [tuple(child) for child in children] == [("config", 0), ("layer", 1)]

    @pytest.mark.parametrize(
        ("first", "second", "kept"),
        [
            ("application/x", media_types.OCI_MANIFEST, False),
            ("application/x", "application/y", False),
            (media_types.OCI_MANIFEST, "application/x", True),
        ],
    )
    def test_a_media_type_is_not_the_first_pushers(
        self, catalog: Catalog, first: str, second: str, *, kept: bool
    ) -> None:
        """Of the same bytes the last one counts, unless it says less than the one before."""
        document = json.loads(image(layer({"a": b"1"}), oci=True).manifest) | {"annotations": {"a": "b"}}
        del document["mediaType"]
        payload = json.dumps(document).encode()
        one, two = parse(first, payload), parse(second, payload)
        with catalog.begin() as tx:
            row = tx.repositories.ensure(NAME)
            link(tx, row.id, payload)
            assert tx.manifests.record(row.id, one)
            tx.views.record(row.id, one.digest, None)
            assert not tx.manifests.record(row.id, two)
            tx.manifests.redescribe(row.id, two)
            found = tx.manifests.find(NAME, one.digest)
            assert found is not None
            assert found.media_type == (first if kept else second)
            assert (
                tx.views.connection.scalar(select(Manifests.annotations))
                == (one if kept else two).annotations
            )
            assert (count(tx, ManifestViews) == 1) is kept

    def test_a_manifest_without_children(self, catalog: Catalog) -> None:
        """A document that names nothing is a manifest too."""
        manifest = artifact(1)
        with catalog.begin() as tx:
            record(tx, tx.repositories.ensure(NAME).id, manifest)
            assert tx.manifests.find(NAME, manifest.digest) is not None
            assert count(tx, ManifestChildren) == 0

    def test_an_index_is_its_manifests_parent(self, catalog: Catalog) -> None:
        """Who names a manifest can be asked, within a repository."""
        both = parse("", index(IMAGE, IMAGE))
        with catalog.begin() as tx:
            repository_id = push(tx)
            assert tx.manifests.parents(repository_id, MANIFEST.digest) == ()
            record(tx, repository_id, both)
            assert tx.manifests.parents(repository_id, MANIFEST.digest) == (both.digest,)
            other_id = push(tx, OTHER)
            assert tx.manifests.parents(other_id, MANIFEST.digest) == ()

    def test_a_manifest_from_upstream_waits_for_its_blobs(self, catalog: Catalog) -> None:
        """What arrives becomes a child, in each role that it has."""
        with catalog.begin() as tx:
            repository_id = tx.repositories.ensure(NAME).id
            link(tx, repository_id, MANIFEST.payload)
            assert tx.manifests.record(repository_id, MANIFEST)
            tx.manifests.record_missing(repository_id, MANIFEST, MANIFEST.children)
            config, *layers = [child.descriptor.digest for child in MANIFEST.children]
            assert tx.manifests.lacking(NAME, MANIFEST.digest, [Role.LAYER]) == layers
            assert tx.manifests.lacking(NAME, MANIFEST.digest, [Role.CONFIG, Role.LAYER]) == [config, *layers]
            assert tx.manifests.lacking(OTHER, MANIFEST.digest, [Role.LAYER]) == []
            link(tx, repository_id, IMAGE.config)
            tx.manifests.resolve_missing(repository_id, config)
            assert tx.manifests.lacking(NAME, MANIFEST.digest, [Role.CONFIG, Role.LAYER]) == layers
            (child,) = tx.manifests.connection.execute(select(ManifestChildren.child, ManifestChildren.role))
            assert child == (config, Role.CONFIG)

    def test_indexes_that_wait_for_a_manifest(self, catalog: Catalog) -> None:
        """They are found by it, within a repository."""
        both = parse("", index(IMAGE, IMAGE))
        with catalog.begin() as tx:
            repository_id = tx.repositories.ensure(NAME).id
            link(tx, repository_id, both.payload)
            tx.manifests.record(repository_id, both)
            tx.manifests.record_missing(repository_id, both, both.children[:1])
            assert [row.digest for row in tx.manifests.awaiting(NAME, MANIFEST.digest)] == [both.digest]
            assert tx.manifests.awaiting(OTHER, MANIFEST.digest) == []

    def test_an_index_waits_for_what_it_names(self, catalog: Catalog) -> None:
        """A manifest that comes later becomes the child of the indexes of its repository that name it."""
        both = parse("", index(IMAGE, IMAGE))
        with catalog.begin() as tx:
            ids = [tx.repositories.ensure(name).id for name in (NAME, OTHER)]
            for repository_id in ids:
                link(tx, repository_id, both.payload)
                assert tx.manifests.record(repository_id, both)
                tx.manifests.record_missing(repository_id, both, both.children[:1])
                tx.manifests.record_missing(repository_id, both, both.children[:1])
                tx.views.record(repository_id, both.digest, None)
            assert push(tx) == ids[0]
            assert tx.manifests.awaits_any(ids[0])
            tx.manifests.resolve_missing(ids[0], MANIFEST.digest)
            tx.manifests.resolve_missing(ids[0], MANIFEST.digest)
            assert [tx.manifests.awaits_any(each) for each in ids] == [False, True]
            assert tx.manifests.parents(ids[0], MANIFEST.digest) == (both.digest,)
            assert (count(tx, MissingChildren), count(tx, ManifestViews)) == (1, 1)
            tx.manifests.remove(ids[1], both.digest)
            assert count(tx, MissingChildren) == 0

    def test_removing_a_manifest_takes_what_hangs_on_it(self, catalog: Catalog) -> None:
        """Tags, children and views go along; blobs, V1 images and other manifests stay."""
        other = artifact(1)
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "a", "b")
            push(tx, OTHER, "a")
            record(tx, repository_id, other)
            tx.tags.point(repository_id, [Tag("c")], other.digest)
            tx.v1_images.record(v1_row(repository_id, 1))
            tx.views.record(repository_id, MANIFEST.digest, image_id(1))
            tx.manifests.remove(repository_id, MANIFEST.digest)
            assert tx.manifests.find(NAME, MANIFEST.digest) is None
            assert tx.manifests.find(OTHER, Tag("a")) is not None
            assert tx.tags.list(NAME, last="", limit=None) == ("c",)
            assert count(tx, ManifestViews) == 0
            assert count(tx, ManifestChildren) == len(MANIFEST.children)
            assert count(tx, V1Images) == 1
            assert tx.blobs.find(NAME, MANIFEST.digest) is not None
            tx.manifests.remove(repository_id, MANIFEST.digest)
