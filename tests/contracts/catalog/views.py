"""Views: V1 images derived from manifests, and manifests from V1 images."""

from dataclasses import replace
from datetime import timedelta

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import ManifestRow
from dualreg.image.manifest import parse
from dualreg.image.names import ImageId, Tag
from tests.builders import index
from tests.conftest import Clock
from tests.contracts.catalog.rows import (
    IMAGE,
    MANIFEST,
    NAME,
    OTHER,
    artifact,
    image_id,
    push,
    record,
    v1_row,
)


class ViewsContract:
    """Views: V1 images derived from manifests, and manifests from V1 images."""

    def test_derived_images_go_with_what_they_were_derived_from(self, catalog: Catalog) -> None:
        """From the top down, as far as nothing is seen as them or stands on them, and nobody sent them."""
        with catalog.begin() as tx:
            row = tx.repositories.ensure(NAME)
            push(tx)
            push(tx, OTHER)
            images = [v1_row(row.id, 1), *(v1_row(row.id, number, number - 1) for number in (2, 3, 4, 5))]
            for image_ in images:
                tx.v1_images.record(replace(image_, checksum=None) if image_.id != image_id(1) else image_)
            tx.v1_images.record(replace(v1_row(row.id, 6, 3), checksum=None))

            def prune(number: int) -> list[ImageId]:
                return [gone.id for gone in tx.v1_images.prune(row, image_id(number))]

            assert prune(9) == []
            assert prune(4) == []  # 5 stands on it
            tx.views.record(row.id, MANIFEST.digest, image_id(4))
            assert prune(5) == [image_id(5)]  # 4 is seen
            tx.views.record(row.id, MANIFEST.digest, None)
            assert prune(4) == [image_id(4)]  # 6 stands on 3
            assert prune(6) == [image_id(6), image_id(3), image_id(2)]  # 1 was sent
            assert tx.v1_images.list(NAME) == (image_id(1),)

    def test_views_that_cannot_be(self, catalog: Catalog) -> None:
        """That there cannot be a view is another thing than that nobody knows; it holds for one kind."""
        with catalog.begin() as tx:
            row = tx.repositories.ensure(NAME)
            push(tx)
            assert not tx.views.excluded(row.id, MANIFEST.digest, kind="oci")
            tx.views.record(row.id, MANIFEST.digest, None, kind="oci")
            assert tx.views.excluded(row.id, MANIFEST.digest, kind="oci")
            assert not tx.views.excluded(row.id, MANIFEST.digest, kind="schema2")
            tx.views.record(row.id, MANIFEST.digest, str(MANIFEST.digest), kind="oci")
            assert not tx.views.excluded(row.id, MANIFEST.digest, kind="oci")

    def test_what_manifests_were_made_to(self, catalog: Catalog) -> None:
        """One by its kind, several by what kinds begin with; and back, to all that one was made of."""
        chain = [artifact(number) for number in range(4)]
        first, second, third, other = (each.digest for each in chain)
        with catalog.begin() as tx:
            ids = [tx.repositories.ensure(name).id for name in (NAME, OTHER)]
            for repository_id in ids:
                for each in chain:
                    record(tx, repository_id, each)
            mine = ids[0]
            tx.views.record(mine, first, image_id(1))
            for manifest, kind, made in (
                (first, "s1-a", second),
                (first, "s1_b", third),
                (second, "oci", third),
                (third, "gzip-r1", second),
                (other, "oci", third),
            ):
                tx.views.record(mine, manifest, str(made), kind=kind)
            tx.views.record(mine, first, None, kind="s1-c")
            found = tx.views.manifest(mine, first, kind="s1-a")
            assert found == ManifestRow(mine, second, chain[1].media_type, len(chain[1].payload))
            for kind in ("s1-c", "s1-d", "v1"):
                assert tx.views.manifest(mine, first, kind=kind) is None
            assert tx.views.manifest(ids[1], first, kind="s1-a") is None
            assert tx.views.made(mine, first, "s1-") == {"s1-a": second}
            assert tx.views.made(mine, first, "s1_") == {"s1_b": third}
            assert tx.views.sources(mine, third) == tuple(sorted((first, second, other), key=str))
            assert tx.views.sources(ids[1], third) == tx.views.sources(mine, first) == ()
            assert tx.views.kinds(mine, first) == {"v1", "s1-a", "s1_b", "s1-c"}
            assert tx.views.kinds(ids[1], first) == frozenset()
            made_of = [
                (view, manifest)
                for view in (first, second, third, other)
                for manifest in (first, second, third, other)
                if tx.views.is_made_of(mine, view, manifest)
            ]
            assert made_of == [(each, of) for each in (second, third) for of in (first, second, third, other)]

    def test_what_lists_an_edition_is_found_and_forgotten(self, catalog: Catalog) -> None:
        """The manifests whose editions list it, by their kinds of view; what is forgotten may be garbage."""
        listing, source = parse("", index(IMAGE)), artifact(1)
        with catalog.begin() as tx:
            mine, other = push(tx), push(tx, OTHER)
            for each in (listing, source):
                record(tx, mine, each)
            record(tx, other, listing)
            for kind, made in (("gzip-r1", listing), ("p-x", listing), ("oci-r1", MANIFEST)):
                tx.views.record(mine, source.digest, str(made.digest), kind=kind)
            expected = ((source.digest, "gzip-r1"), (source.digest, "p-x"))
            assert tx.views.listing(mine, MANIFEST.digest) == expected
            assert tx.views.listing(other, MANIFEST.digest) == tx.views.listing(mine, source.digest) == ()
            tx.views.forget(mine, source.digest, "gzip-r1")
            assert tx.views.listing(mine, MANIFEST.digest) == expected[1:]
            assert not tx.views.is_recorded(mine, source.digest, kind="gzip-r1")
            soon = tx.now + timedelta(seconds=1)
            found = tx.garbage.candidates(soon, None, 9, untagged_before=None)
            assert listing.digest in {each.digest for each in found}

    def test_views_of_tags(self, catalog: Catalog) -> None:
        """Tags are seen as images; those that V1 clients cannot use, or nobody worked out, are left out."""
        unusable, unknown = artifact(1), artifact(2)
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "a", "B")
            for manifest, tag in ((unusable, "c"), (unknown, "d")):
                record(tx, repository_id, manifest)
                tx.tags.point(repository_id, [Tag(tag)], manifest.digest)
            assert tx.views.tags(NAME).images == {}
            tx.views.record(repository_id, MANIFEST.digest, image_id(1))
            tx.views.record(repository_id, unusable.digest, None)
            assert [*tx.views.tags(NAME).images.items()] == [(Tag("B"), image_id(1)), (Tag("a"), image_id(1))]
            assert tx.views.tags(NAME, Tag("a")).images == {Tag("a"): image_id(1)}
            assert tx.views.tags(NAME, Tag("c")).images == {}
            assert tx.views.tags(OTHER).images == {}

    def test_views_that_are_missing(self, catalog: Catalog) -> None:
        """Tagged manifests without a view, each once; untagged and worked-out ones are not among them."""
        untagged, unusable = artifact(1), artifact(2)
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "a", "b")
            push(tx, OTHER, "a")
            for manifest in (untagged, unusable):
                record(tx, repository_id, manifest)
            tx.tags.point(repository_id, [Tag("c")], unusable.digest)
            row = ManifestRow(repository_id, MANIFEST.digest, IMAGE.media_type, len(IMAGE.manifest))
            assert {each.digest for each in tx.views.missing(NAME)} == {MANIFEST.digest, unusable.digest}
            tx.views.record(repository_id, unusable.digest, None)
            assert tx.views.missing(NAME) == (row,)
            tx.views.record(repository_id, MANIFEST.digest, image_id(1))
            assert tx.views.missing(NAME) == ()

    def test_the_newest_manifest_of_an_image(self, catalog: Catalog, clock: Clock) -> None:
        """Of several manifests seen as one image, the last pushed counts, in its repository."""
        older, newer = artifact(1), artifact(2)
        ids = {}
        for manifest in (older, newer):
            with catalog.begin() as tx:
                ids[manifest.digest] = repository_id = tx.repositories.ensure(NAME).id
                record(tx, repository_id, manifest)
                tx.views.record(repository_id, manifest.digest, image_id(2))
                tx.views.record(repository_id, manifest.digest, image_id(1))
            clock.advance(timedelta(seconds=1))
        with catalog.read() as tx:
            assert tx.views.manifest_of(repository_id, image_id(1)) == newer.digest
            assert tx.views.manifest_of(repository_id, image_id(2)) is None
            assert tx.views.manifest_of(repository_id + 1, image_id(1)) is None

    def test_manifests_are_no_longer_seen_as_what_is_another(self, catalog: Catalog) -> None:
        """Those that were seen as one of the images; not those of other images or repositories."""
        with catalog.begin() as tx:
            repository_id, other = push(tx, NAME, "a"), push(tx, OTHER, "a")
            record(tx, repository_id, artifact(1))
            tx.tags.point(repository_id, [Tag("b")], artifact(1).digest)
            tx.views.record(repository_id, MANIFEST.digest, image_id(1))
            tx.views.record(repository_id, artifact(1).digest, image_id(2))
            tx.views.record(other, MANIFEST.digest, image_id(1))
            tx.views.hide(repository_id, [image_id(1), image_id(3)])
            assert tx.views.tags(NAME).images == {Tag("b"): image_id(2)}
            assert tx.views.missing(NAME) == ()
            assert tx.views.tags(OTHER).images == {Tag("a"): image_id(1)}
