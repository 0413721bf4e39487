"""V1 images: their ancestry, and how they arrive."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import SentLayer, V1ImageRow
from dualreg.image.names import RepositoryName
from dualreg.image.v1_image import V1Image
from dualreg.patterns import EVERYWHERE, Reach
from tests.contracts.catalog.rows import (
    CONFIG,
    IMAGE,
    LOWER,
    MANIFEST,
    MISSING,
    NAME,
    OTHER,
    UPPER,
    found_image,
    image_id,
    push,
    v1_row,
)


class V1ImagesContract:
    """V1 images: their ancestry, and how they arrive."""

    def _chain(self, catalog: Catalog, parents: Sequence[int | None], name: RepositoryName = NAME) -> None:
        """Record images 0, 1, … with *parents*."""
        with catalog.begin() as tx:
            repository_id = push(tx, name)
            for number, parent in enumerate(parents):
                tx.v1_images.record(v1_row(repository_id, number, parent))

    def test_ancestry_goes_from_the_image_to_the_base(self, catalog: Catalog) -> None:
        """The image first, the base last, branches and other repositories aside."""
        self._chain(catalog, [None, 0, 1, 1])
        self._chain(catalog, [None, None, 0], OTHER)
        with catalog.read() as tx:
            assert [row.id for row in tx.v1_images.ancestry(NAME, image_id(3))] == [
                image_id(3),
                image_id(1),
                image_id(0),
            ]
            assert [row.id for row in tx.v1_images.ancestry(OTHER, image_id(2))] == [image_id(2), image_id(0)]
            assert [row.id for row in tx.v1_images.ancestry(NAME, image_id(0))] == [image_id(0)]
            assert tx.v1_images.ancestry(NAME, image_id(9)) == ()
            assert tx.v1_images.ancestry(OTHER, image_id(3)) == ()
            found = tx.v1_images.find(NAME, image_id(3))
            assert tx.v1_images.ancestry(NAME, image_id(3))[0] == found

    @pytest.mark.slow
    def test_ancestry_of_a_deep_chain(self, catalog: Catalog) -> None:
        """Chains as long as any daemon mounts are followed to their end."""
        self._chain(catalog, [None, *range(400)])
        with catalog.read() as tx:
            rows = tx.v1_images.ancestry(NAME, image_id(400))
        assert [row.id for row in rows] == [image_id(number) for number in range(400, -1, -1)]

    def test_ancestry_ends_where_a_parent_is_missing_or_repeats(self, catalog: Catalog) -> None:
        """A hole ends the chain; a circle, which only damage could make, does not run for ever."""
        self._chain(catalog, [9, 0])
        self._chain(catalog, [1, 0], OTHER)
        with catalog.read() as tx:
            assert [row.id for row in tx.v1_images.ancestry(NAME, image_id(1))] == [image_id(1), image_id(0)]
            assert {row.id for row in tx.v1_images.ancestry(OTHER, image_id(1))} == {image_id(0), image_id(1)}

    def test_without_a_repository_any_complete_image_is_found(self, catalog: Catalog) -> None:
        """A client without a session reads from the oldest repository within reach that has it whole."""
        with catalog.begin() as tx:
            first, second = push(tx, NAME), push(tx, OTHER)
            tx.v1_images.begin(first, V1Image(image_id(1), None, b""), CONFIG)
            tx.v1_images.record(v1_row(second, 0))
            tx.v1_images.record(v1_row(second, 1, 0))
            assert tx.v1_images.holders(image_id(1), EVERYWHERE) == (OTHER,)
            assert tx.v1_images.holders(image_id(1), Reach(((NAME,),))) == ()
            tx.v1_images.record(v1_row(first, 1))
            assert tx.v1_images.holders(image_id(1), EVERYWHERE) == (NAME,)
            assert tx.v1_images.holders(image_id(1), EVERYWHERE, limit=5) == (NAME, OTHER)
            assert tx.v1_images.holders(image_id(1), EVERYWHERE, but=NAME) == (OTHER,)
            assert tx.v1_images.holders(image_id(1), Reach(((OTHER,),))) == (OTHER,)
            assert tx.v1_images.holders(image_id(9), EVERYWHERE) == ()

    def test_an_image_arrives_in_three_steps(self, catalog: Catalog) -> None:
        """JSON, layer, completion: each is visible, and only complete images are listed."""
        with catalog.begin() as tx:
            repository_id = push(tx)
            tx.v1_images.begin(repository_id, V1Image(image_id(1), image_id(0), b""), CONFIG)
            begun = tx.v1_images.find(NAME, image_id(1))
            assert begun == V1ImageRow(
                repository_id, image_id(1), image_id(0), CONFIG, None, None, None, None, complete=False
            )
            assert tx.v1_images.attach(begun, SentLayer(LOWER, MISSING, UPPER)) is True
            assert tx.v1_images.list(NAME) == ()
            attached = tx.v1_images.find(NAME, image_id(1))
            size = len(IMAGE.layers[0])
            assert attached == V1ImageRow(
                repository_id, image_id(1), image_id(0), CONFIG, LOWER, size, MISSING, UPPER, complete=False
            )
            assert tx.v1_images.complete(attached, SentLayer(LOWER, MISSING, UPPER)) is True
            assert tx.v1_images.list(NAME) == (image_id(1),)
            assert tx.v1_images.find(OTHER, image_id(1)) is None

    def test_an_image_that_changed_meanwhile_is_left_alone(self, catalog: Catalog) -> None:
        """Neither layer nor completion reaches an image that another client began anew or completed."""
        with catalog.begin() as tx:
            repository_id = push(tx)
            tx.v1_images.begin(repository_id, V1Image(image_id(1), None, b""), CONFIG)
            read = tx.v1_images.find(NAME, image_id(1))
            assert read is not None
            tx.v1_images.begin(repository_id, V1Image(image_id(1), None, b""), UPPER)
            first, second = SentLayer(LOWER, MISSING, UPPER), SentLayer(UPPER, MISSING, LOWER)
            assert tx.v1_images.attach(read, first) is False
            anew = tx.v1_images.find(NAME, image_id(1))
            assert anew is not None
            assert tx.v1_images.complete(read, first) is False
            assert tx.v1_images.attach(anew, first) is True
            assert tx.v1_images.attach(anew, second) is True
            assert tx.v1_images.sent(anew) == (first,)
            assert tx.v1_images.attach(anew, second) is True
            assert tx.v1_images.sent(anew) == (first,)
            assert tx.v1_images.complete(anew, first) is True
            last = tx.v1_images.find(NAME, image_id(1))
            assert last is not None
            assert (last.layer, last.checksum, last.complete) == (LOWER, UPPER, True)
            assert {*tx.v1_images.sent(last)} == {first, second}
            assert tx.v1_images.attach(last, first) is False
            assert tx.v1_images.complete(last, second) is False

    def test_beginning_again_starts_over(self, catalog: Catalog) -> None:
        """A new JSON forgets the layer that came with the old one, but never a complete image."""
        with catalog.begin() as tx:
            repository_id = push(tx)
            complete = v1_row(repository_id, 2)
            tx.v1_images.record(complete)
            assert not tx.v1_images.begin(repository_id, V1Image(image_id(2), None, b""), UPPER)
            assert tx.v1_images.find(NAME, image_id(2)) == complete
            tx.v1_images.record(replace(v1_row(repository_id, 1), complete=False))
            assert tx.v1_images.begin(repository_id, V1Image(image_id(1), None, b""), UPPER)
            assert tx.v1_images.find(NAME, image_id(1)) == V1ImageRow(
                repository_id, image_id(1), None, UPPER, None, None, None, None, complete=False
            )

    def test_an_image_is_not_begun_anew_while_it_is_being_pushed(self, catalog: Catalog) -> None:
        """Every part that arrives counts; what is complete has no such time."""
        with catalog.begin() as tx:
            repository_id = push(tx)
            tx.v1_images.begin(repository_id, V1Image(image_id(1), None, b""), CONFIG)
            begun = found_image(tx, 1)
            touched = tx.v1_images.touched_at(begun)
            assert touched == tx.v1_images.now
            before, other = touched - timedelta(seconds=1), V1Image(image_id(1), None, b"")
            assert not tx.v1_images.begin(repository_id, other, UPPER, idle_since=before)
            assert found_image(tx, 1) == begun
            assert tx.v1_images.begin(repository_id, other, UPPER, idle_since=touched)
            assert tx.v1_images.touched_at(begun) is None
            assert tx.v1_images.touched_at(found_image(tx, 1)) == touched
        with catalog.begin() as tx:
            tx.v1_images.touch(begun)
            assert tx.v1_images.touched_at(found_image(tx, 1)) == touched
            tx.v1_images.touch(found_image(tx, 1))
            assert tx.v1_images.touched_at(found_image(tx, 1)) == tx.v1_images.now

    def test_what_is_stated_of_an_image_is_kept(self, catalog: Catalog) -> None:
        """With its completion: the TarSum, and whether it agreed."""
        with catalog.begin() as tx:
            repository_id = push(tx)
            tx.v1_images.begin(repository_id, V1Image(image_id(1), None, b""), CONFIG)
            sent = SentLayer(LOWER, MISSING, UPPER)
            tx.v1_images.attach(found_image(tx, 1), sent)
            stated = replace(found_image(tx, 1), tarsum="tarsum+sha256:0", tarsum_verified=False)
            assert tx.v1_images.complete(stated, sent) is True
            assert found_image(tx, 1) == replace(stated, complete=True)

    def test_complete_images_are_found_by_their_ids(self, catalog: Catalog) -> None:
        """What is incomplete, unknown or in another repository is left out; any number may be asked for."""
        with catalog.begin() as tx:
            repository_id, other = push(tx), push(tx, OTHER)
            rows = [v1_row(repository_id, 1), v1_row(repository_id, 2, 1)]
            for row in rows:
                tx.v1_images.record(row)
            tx.v1_images.begin(repository_id, V1Image(image_id(3), None, b""), CONFIG)
            wanted = [image_id(number) for number in range(1, 1200)]
            found = tx.v1_images.complete_ones(repository_id, wanted)
            assert {found_id: (row.json, row.parent, row.diff_id) for found_id, row in found.items()} == {
                row.id: (row.json, row.parent, row.diff_id) for row in rows
            }
            assert tx.v1_images.complete_ones(repository_id, []) == {}
            assert tx.v1_images.complete_ones(other, wanted) == {}

    def test_a_pushed_image_takes_the_place_of_a_derived_one(self, catalog: Catalog) -> None:
        """It stays if another one with the same files is pushed or derived."""
        with catalog.begin() as tx:
            derived = replace(v1_row(push(tx), 1), checksum=None)
            pushed = replace(derived, checksum=UPPER)
            assert [tx.v1_images.record(row) for row in (derived, derived, pushed)] == [True, False, True]
            assert tx.v1_images.record(derived) is False
            assert tx.v1_images.record(replace(pushed, checksum=LOWER)) is False
            assert tx.v1_images.record(replace(derived, diff_id=LOWER)) is True

    def test_what_was_sent_for_an_image_outlives_a_derived_one(self, catalog: Catalog) -> None:
        """The client has still to state its checksum; an image without a layer leaves nothing."""
        sent = SentLayer(LOWER, MISSING, UPPER)
        with catalog.begin() as tx:
            repository_id = push(tx)
            for number in (1, 2):
                tx.v1_images.begin(repository_id, V1Image(image_id(number), None, b""), CONFIG)
            tx.v1_images.attach(found_image(tx, 1), sent)
            for number in (1, 2):
                derived = replace(v1_row(repository_id, number), checksum=None)
                assert tx.v1_images.record(derived) is True
                assert tx.v1_images.sent(derived) == ((sent,) if number == 1 else ())

    def test_images_are_cleared_from_the_top(self, catalog: Catalog) -> None:
        """Few at a time, each after all that build on it, also where several do."""
        parents = [None, 0, 1, 1, 3, 0, 5, 6, None, 8]
        self._chain(catalog, parents)
        self._chain(catalog, [None], OTHER)
        left = {image_id(number): number for number in range(len(parents))}
        with catalog.begin() as tx:
            repository_id = push(tx)
            while gone := tx.v1_images.clear(repository_id, 2):
                assert len(gone) <= 2
                assert {left.pop(image) for image in gone}.isdisjoint(parents[each] for each in left.values())
        assert left == {}
        with catalog.read() as tx:
            assert tx.v1_images.list(NAME) == ()
            assert tx.v1_images.list(OTHER) == (image_id(0),)

    def test_images_are_forgotten_from_the_top(self, catalog: Catalog) -> None:
        """One that something stands on, or a manifest is seen as, stays."""
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "a")
            other = push(tx, OTHER, "a")
            for owner in (repository_id, other):
                for row in (v1_row(owner, 0), v1_row(owner, 1, 0), v1_row(owner, 2)):
                    tx.v1_images.record(row)
            tx.views.record(repository_id, MANIFEST.digest, image_id(2))
            assert [tx.v1_images.remove(repository_id, image_id(number)) for number in (0, 2, 9)] == [
                False
            ] * 3
            assert [tx.v1_images.remove(repository_id, image_id(number)) for number in (1, 0)] == [True] * 2
            assert {*tx.v1_images.list(NAME)} == {image_id(2)}
            assert {*tx.v1_images.list(OTHER)} == {image_id(0), image_id(1), image_id(2)}
