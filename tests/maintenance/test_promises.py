"""An answer that content is present holds for half the grace, and costs next to nothing."""

import gzip
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import event

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobDamaged, ChecksumMismatch, ImageExists, ImageUnknown, ManifestUnknown
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.image.v1_image import payload_hasher
from dualreg.maintenance.gc import Collection
from dualreg.registry import Registry
from tests import builders
from tests.conftest import Clock
from tests.maintenance.test_garbage import DAY, NAME, TAG, collect, stored, with_untagged
from tests.properties.registries import push_v1, push_v2

IMAGE = builders.image(builders.layer({"a": b"a"}))
LAYER = Digest.of(IMAGE.layers[0])
PUSHED = builders.v1_chain(*IMAGE.layers)[0]
HOUR = timedelta(hours=1)


def executed(catalog: Catalog, action: Callable[[], object]) -> list[str]:
    """Return the statements that *action* executes."""
    statements: list[str] = []
    listen = lambda *given: statements.append(given[2])  # noqa: E731 -- removed below
    event.listen(catalog.engine, "before_cursor_execute", listen)
    action()
    event.remove(catalog.engine, "before_cursor_execute", listen)
    return statements


def test_content_in_use_is_read_without_writing(registry: Registry, catalog: Catalog, clock: Clock) -> None:
    """Not even when its links have not been reviewed since it was pushed; its last use starts the grace."""
    push_v2(registry, NAME, TAG, IMAGE)
    clock.advance(13 * HOUR)
    for read in (
        lambda: registry.blobs.stat(NAME, LAYER),
        lambda: registry.manifests.find(NAME, IMAGE.digest),
        lambda: registry.manifests.find(NAME, TAG),
    ):
        assert len(executed(catalog, read)) == 1
    registry.blobs.stat(NAME, LAYER)
    clock.advance(10 * HOUR)
    registry.manifests.delete(NAME, IMAGE.digest)
    clock.advance(2 * HOUR)
    Collection(registry).run()
    assert registry.blobs.stat(NAME, LAYER)


def test_a_promise_is_written_once_in_half_the_grace(
    registry: Registry, catalog: Catalog, clock: Clock
) -> None:
    """However often clients ask for an unused blob."""
    registry.uploads.ingest(NAME, [IMAGE.layers[0]])
    stat = lambda: registry.blobs.stat(NAME, LAYER)  # noqa: E731 -- called often
    assert len(executed(catalog, stat)) == 1
    clock.advance(12 * HOUR)
    assert any("UPDATE" in statement for statement in executed(catalog, stat))
    assert len(executed(catalog, stat)) == 1


def test_what_an_unused_manifest_names_has_a_grace_of_its_own(registry: Registry, clock: Clock) -> None:
    """Even if both were noted at the same time: until now, clients heard of it as of something used."""
    registry = with_untagged(registry, timedelta(0))
    push_v2(registry, NAME, TAG, IMAGE)
    registry.tags.delete(NAME, TAG)
    clock.advance(DAY)
    released = Collection(registry).run().repositories[NAME]
    assert (released.manifests, released.blobs) == (1, 1)
    assert registry.blobs.stat(NAME, LAYER)
    collect(registry, clock, days=3)
    assert stored(registry) == set()


@pytest.mark.slow
def test_an_untagged_manifest_that_is_asked_for_stays(registry: Registry, clock: Clock) -> None:
    """Its client may be about to name it in an index."""
    registry = with_untagged(registry, timedelta(0))
    push_v2(registry, NAME, TAG, IMAGE)
    registry.tags.delete(NAME, TAG)
    for _ in range(4):
        clock.advance(13 * HOUR)
        registry.manifests.find(NAME, IMAGE.digest)
        Collection(registry).run()
    clock.advance(11 * HOUR)
    Collection(registry).run()
    index = builders.index(IMAGE)
    registry.manifests.put(NAME, TAG, media_types.OCI_INDEX, index)
    collect(registry, clock)
    assert registry.manifests.find(NAME, IMAGE.digest)
    registry.tags.delete(NAME, TAG)
    collect(registry, clock)
    with pytest.raises(ManifestUnknown):
        registry.manifests.find(NAME, IMAGE.digest)


def test_manifests_that_wait_for_their_time_are_not_reviewed(registry: Registry, clock: Clock) -> None:
    """A collection costs nothing for manifests that gc_untagged keeps for longer."""
    registry = with_untagged(registry, timedelta(days=30))
    push_v2(registry, NAME, TAG, IMAGE)
    collect(registry, clock, days=3)
    registry.tags.delete(NAME, TAG)
    clock.advance(29 * DAY)
    assert registry.garbage.candidates(clock()) == []
    clock.advance(DAY)
    assert [each.digest for each in registry.garbage.candidates(clock())] == [IMAGE.digest]


def ask(registry: Registry) -> None:
    """Ask for the JSON, as Docker does before it pushes an image."""
    registry.v1_images.promise(NAME, PUSHED.id)


def push_json(registry: Registry) -> None:
    """Push the JSON of a complete image: Docker takes the refusal as present."""
    with pytest.raises(ImageExists):
        registry.v1_images.begin(NAME, PUSHED.id, PUSHED.json)


def push_layer(registry: Registry) -> None:
    """Push the layer of a complete image."""
    registry.v1_images.put_layer(NAME, PUSHED.id, [PUSHED.layer])


def push_checksum(registry: Registry) -> None:
    """Push the checksum of a complete image."""
    registry.v1_images.put_checksum(NAME, PUSHED.id, checksum())


def checksum() -> Digest:
    """Return the payload checksum of the image."""
    hasher = payload_hasher(PUSHED.json)
    hasher.update(PUSHED.layer)
    return hasher.digest()


def push_untagged(registry: Registry) -> None:
    """Push an image to which no tag is pushed."""
    registry.v1_images.begin(NAME, PUSHED.id, PUSHED.json)
    push_layer(registry)
    push_checksum(registry)


@pytest.mark.slow
@pytest.mark.parametrize("promise", [ask, push_json, push_layer, push_checksum])
def test_a_v1_image_that_is_said_to_be_present_stays(
    registry: Registry, clock: Clock, promise: Callable[[Registry], None]
) -> None:
    """For half the grace; then it goes, if its client does not come back."""
    push_untagged(registry)
    for _ in range(4):
        clock.advance(13 * HOUR)
        promise(registry)
        Collection(registry).run()
    clock.advance(11 * HOUR)
    Collection(registry).run()
    assert registry.v1_images.get(NAME, PUSHED.id)
    collect(registry, clock)
    with pytest.raises(ImageUnknown):
        registry.v1_images.get(NAME, PUSHED.id)
    assert stored(registry) == set()


def test_a_tagged_v1_image_is_promised_once_in_half_the_grace(
    registry: Registry, catalog: Catalog, clock: Clock
) -> None:
    """Its ancestors may lose what leads to them without being noted."""
    push_v1(registry, NAME, TAG, [PUSHED])
    collect(registry, clock)
    assert len(executed(catalog, lambda: ask(registry))) > 1
    assert len(executed(catalog, lambda: ask(registry))) == 1


def test_a_view_that_is_said_to_be_present_outlives_its_manifest(registry: Registry, clock: Clock) -> None:
    """A V1 client that was told of it, while a manifest was seen as it, may be about to build on it."""
    registry = with_untagged(registry, timedelta(0))
    push_v2(registry, NAME, TAG, IMAGE)
    view = registry.bridge.resolve(NAME, TAG)
    collect(registry, clock)
    registry.tags.delete(NAME, TAG)
    clock.advance(23 * HOUR)
    registry.v1_images.promise(NAME, view)
    clock.advance(HOUR)
    assert Collection(registry).run().repositories[NAME].manifests == 1
    assert registry.v1_images.get(NAME, view)
    collect(registry, clock)
    assert stored(registry) == set()


@pytest.mark.parametrize("complete", [True, False])
def test_a_v1_push_that_goes_on_after_a_day_stays(
    registry: Registry, clock: Clock, *, complete: bool
) -> None:
    """It is collected a grace after its client was last heard of, complete or not."""
    registry.v1_images.begin(NAME, PUSHED.id, PUSHED.json)
    clock.advance(23 * HOUR)
    push_layer(registry)
    if complete:
        push_checksum(registry)
    for _ in range(3):
        clock.advance(7 * HOUR)
        Collection(registry).run()
        assert registry.v1_images.peek(NAME, PUSHED.id)
    collect(registry, clock)
    assert registry.v1_images.peek(NAME, PUSHED.id) is None
    assert stored(registry) == set()


def test_another_compression_of_a_layer_goes(registry: Registry, clock: Clock) -> None:
    """What a second client sent for an image is kept for its checksum, but not after the grace."""
    other = gzip.compress(gzip.decompress(PUSHED.layer), 1)
    registry.v1_images.begin(NAME, PUSHED.id, PUSHED.json)
    push_layer(registry)
    registry.v1_images.put_layer(NAME, PUSHED.id, [other])
    push_checksum(registry)
    registry.bridge.tag(NAME, TAG, PUSHED.id)
    collect(registry, clock)
    assert Digest.of(other) not in stored(registry)
    push_checksum(registry)
    with pytest.raises(ChecksumMismatch):
        registry.v1_images.put_checksum(NAME, PUSHED.id, Digest.of(b""))


def test_what_was_deleted_meanwhile_is_not_linked(registry: Registry) -> None:
    """An import that found bytes in the store fails if they are gone when it links them."""
    with pytest.raises(BlobDamaged):
        registry.blobs.share(RepositoryName("new"), BlobRow(LAYER, len(IMAGE.layers[0])))
    assert not registry.blobs.find(RepositoryName("new"), LAYER)
