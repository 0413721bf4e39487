"""Garbage goes after the grace, and nothing else does, whatever clients do meanwhile."""

import errno
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import delete, event

from dualreg.assembly import build_registry
from dualreg.catalog.clock import utc_now
from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import RepositoryBlobs
from dualreg.errors import BlobUnknown, ImageUnknown, ManifestUnknown, ReferencesMissing
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag, UploadId
from dualreg.maintenance.gc import Collected, Collection
from dualreg.maintenance.rebuild import Rebuild
from dualreg.registry import Registry, deletion, sweep
from dualreg.registry.accept import Accept, Agent
from dualreg.registry.state import Retention
from dualreg.storage.links import blob_link
from tests import builders
from tests.conftest import Clock, GuardedCatalog, GuardedStore
from tests.contracts.postgresql import DATABASES, migrated_postgresql
from tests.databases import empty_database, empty_file
from tests.properties.registries import push_v1, push_v2, read_blob
from tests.soak import short_or_long

NAME, OTHER, TAG = RepositoryName("team/app"), RepositoryName("other"), Tag("latest")
DAY = timedelta(hours=24)
IMAGE = builders.image(builders.layer({"a": b"a"}), builders.layer({"b": b"b"}))
LAYER = Digest.of(IMAGE.layers[0])


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server for this module, with the tables that the migrations make."""
    with migrated_postgresql() as url:
        yield url


@pytest.fixture(params=DATABASES)
def catalog(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Catalog]:
    """An empty catalog in either database."""
    if request.param == "sqlite":
        catalog: Catalog = GuardedCatalog(empty_file(tmp_path), now=clock)
    else:
        catalog = GuardedCatalog(request.getfixturevalue("server"), now=clock)
        with catalog.engine.begin() as connection:
            connection.exec_driver_sql("TRUNCATE repositories, blobs, service_state CASCADE")
    yield catalog
    catalog.close()


@pytest.fixture
def registry(registry: Registry) -> Registry:
    """A registry that does not keep what was deleted."""
    retention = replace(registry.state.retention, undelete=timedelta())
    return registry.over(replace(registry.state, retention=retention))


def stored(registry: Registry) -> set[Digest]:
    """Return the blobs that the store has."""
    return {blob.digest for blob in registry.blobs.state.store.walk()}


def collect(registry: Registry, clock: Clock, *, days: int = 6, full: bool = False) -> Collected:
    """Collect once a day, until whatever is garbage now must be gone; return what the first one did."""
    first = Collection(registry).run(full=full)
    for _ in range(days):
        clock.advance(DAY)
        Collection(registry).run()
    return first


def with_untagged(registry: Registry, untagged: timedelta) -> Registry:
    """Return the registry with the setting ``gc_untagged``."""
    return registry.over(replace(registry.blobs.state, retention=Retention(DAY, untagged)))


def test_a_deleted_image_goes_and_its_neighbour_stays(registry: Registry, clock: Clock) -> None:
    """Of two images that share a layer, what only the deleted one named goes, in two graces."""
    other = builders.image(IMAGE.layers[0])
    push_v2(registry, NAME, TAG, IMAGE)
    push_v2(registry, NAME, Tag("other"), other)
    registry.manifests.delete(NAME, IMAGE.digest)
    assert Collection(registry).run().blobs == 0
    collect(registry, clock)
    assert stored(registry) == {*other.blobs, other.digest}
    assert read_blob(registry, NAME, LAYER) == IMAGE.layers[0]


@pytest.mark.slow
def test_editions_stay_and_go_with_their_image(registry: Registry, clock: Clock) -> None:
    """Those of an index and of its images, and the layers made for them, which other images do not have."""
    image, other = builders.zstd_image(*IMAGE.layers), builders.image(IMAGE.layers[0], oci=True)
    for each in (image, other):
        push_v2(registry, NAME, Tag("for-now"), each)
    registry.tags.delete(NAME, Tag("for-now"))
    index = registry.manifests.put(NAME, TAG, "", builders.index(image, other)).manifest
    docker = Accept(frozenset({media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST}))
    old = Accept(media_types.IMAGES | media_types.INDEXES, agent=Agent.of("docker/20.10.24"))
    made = [registry.negotiation.find(NAME, TAG, accept).digest for accept in (docker, old)]
    pushed = {*image.blobs, image.digest, *other.blobs, other.digest, index.digest}
    before = stored(registry)
    images = 3  # both editions of the one with zstd layers, and one of the other
    assert len(before - pushed) == len(made) + images + len(image.layers)
    collect(with_untagged(registry, DAY), clock, full=True)
    assert stored(registry) == before
    assert [registry.manifests.find(NAME, digest).digest for digest in made] == made
    registry.manifests.delete(NAME, index.digest)
    for each in (image, other):
        registry.manifests.delete(NAME, each.digest)
    collect(registry, clock)
    assert stored(registry) == set()


@pytest.mark.slow
def test_schema_1_stays_and_goes_with_its_image(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That for each tag, whether the tag is still there or not, and more than one step deletes."""
    monkeypatch.setattr(deletion, "STEP", 2)
    old = Accept(agent=Agent.of("docker/1.9.1"))
    push_v2(registry, NAME, TAG, IMAGE)
    tags = [Tag(f"t{number}") for number in range(5)]
    registry.manifests.put(NAME, tags[0], IMAGE.media_type, IMAGE.manifest, tags=tags)
    made = [registry.negotiation.find(NAME, tag, old) for tag in tags]
    assert len({each.digest for each in made}) == len(tags)
    registry.tags.delete(NAME, tags[0])
    before = stored(registry)
    collect(with_untagged(registry, DAY), clock, full=True)
    assert stored(registry) == before
    assert {each.digest for each in made} <= before
    registry.manifests.delete(NAME, made[0].digest)
    assert registry.manifests.peek(NAME, TAG) is None
    collect(with_untagged(registry, DAY), clock)
    assert stored(registry) == set()


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["V1", "V2"])
def test_schema_1_that_is_pushed_again_does_not_stay_for_ever(
    registry: Registry, clock: Clock, origin: str
) -> None:
    """What modern clients get of it may be the image that it was made of, or what that was made to."""
    old = Accept(agent=Agent.of("docker/1.9.1"))
    newer = [Accept(frozenset([each])) for each in (media_types.DOCKER_MANIFEST, media_types.OCI_MANIFEST)]
    if origin == "V1":
        push_v1(registry, NAME, TAG, builders.v1_chain(*IMAGE.layers))
    else:
        push_v2(registry, NAME, TAG, IMAGE)
    for _ in range(3):
        schema1 = registry.negotiation.find(NAME, TAG, old)
        registry.manifests.put(NAME, TAG, schema1.media_type, schema1.read())
        for number, accept in enumerate(newer):
            made = registry.negotiation.find(NAME, TAG, accept)
            assert made.media_type not in media_types.SCHEMA1_TYPES
            registry.manifests.put(NAME, Tag(f"other{number}"), made.media_type, made.read())
            for each in (old, *newer):
                registry.negotiation.find(NAME, Tag(f"other{number}"), each)
        registry.manifests.put(NAME, TAG, made.media_type, made.read())
    for tag in (TAG, Tag("other0"), Tag("other1")):
        registry.tags.delete(NAME, tag)
    collect(with_untagged(registry, DAY), clock, days=12)
    assert stored(registry) == set()


@pytest.mark.slow
def test_editions_of_each_other_do_not_stay_for_ever(registry: Registry, clock: Clock) -> None:
    """An edition that got a tag may be, to clients of other media types, what it was made of."""
    types = media_types.DOCKER_MANIFEST, media_types.OCI_MANIFEST
    docker, oci = (Accept(frozenset([each])) for each in types)
    push_v2(registry, NAME, TAG, builders.image(*IMAGE.layers, oci=True))
    tags, made = [TAG, Tag("docker"), Tag("oci")], []
    for tag, accept, named in zip(tags, (docker, oci, docker), (*tags[1:], None), strict=True):
        made.append(registry.negotiation.find(NAME, tag, accept))
        if named:
            registry.manifests.put(NAME, named, made[-1].media_type, made[-1].read())
    assert made[0].digest == made[2].digest
    for tag in tags:
        registry.tags.delete(NAME, tag)
    collect(with_untagged(registry, DAY), clock)
    assert stored(registry) == set()


def test_a_deleted_repository_goes(registry: Registry, clock: Clock) -> None:
    """Its blobs go unless another repository has them."""
    push_v2(registry, NAME, TAG, IMAGE)
    registry.blobs.mount(OTHER, LAYER, NAME)
    push_v2(registry, OTHER, TAG, builders.image(IMAGE.layers[0]))
    registry.repositories.delete(NAME)
    clock.advance(DAY)
    planned = Collection(registry, dry_run=True).run()
    done = Collection(registry).run()
    assert (planned.blobs, planned.bytes) == (done.blobs, done.bytes)
    assert done.bytes == sum(map(len, (IMAGE.layers[1], IMAGE.config, IMAGE.manifest)))
    assert read_blob(registry, OTHER, LAYER) == IMAGE.layers[0]


def test_a_file_that_cannot_be_deleted_does_not_stop_others(
    registry: Registry, clock: Clock, store: GuardedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again after a grace."""
    push_v2(registry, NAME, TAG, IMAGE)
    registry.manifests.delete(NAME, IMAGE.digest)
    remove, bad = store.remove, {LAYER}

    def failing(digest: Digest, aside: UploadId) -> None:
        if digest in bad:
            raise OSError(errno.EIO, "Input/output error")
        remove(digest, aside)

    monkeypatch.setattr(store, "remove", failing)
    collect(registry, clock)
    assert stored(registry) == {LAYER}
    bad.clear()
    collect(registry, clock)
    assert stored(registry) == set()


def stat(registry: Registry) -> None:
    """Ask for the blob as HEAD does."""
    registry.blobs.stat(NAME, LAYER)


def mount(registry: Registry) -> None:
    """Mount the blob from another repository, as a push of a fork does."""
    registry.blobs.mount(NAME, LAYER, OTHER)


def upload(registry: Registry) -> None:
    """Push the blob again."""
    registry.uploads.ingest(NAME, [IMAGE.layers[0]])


@pytest.mark.parametrize("promise", [stat, mount, upload])
def test_an_answer_is_a_promise(
    registry: Registry, clock: Clock, promise: Callable[[Registry], None]
) -> None:
    """After HEAD, a mount or a push of an unused blob, its client has half the grace to name it."""
    upload(registry)
    registry.uploads.ingest(OTHER, [IMAGE.layers[0]])
    for hours in (13, 11, 11, 13):
        clock.advance(timedelta(hours=hours))
        Collection(registry).run()
        promise(registry)
    clock.advance(timedelta(hours=11))
    Collection(registry).run()
    push_v2(registry, NAME, TAG, IMAGE)
    collect(registry, clock)
    assert read_blob(registry, NAME, LAYER) == IMAGE.layers[0]


def test_what_is_condemned_is_revived(registry: Registry, clock: Clock) -> None:
    """A push of a blob without links makes it a blob like any other, with its bytes."""
    upload(registry)
    clock.advance(DAY)
    released = Collection(registry).run()
    assert (released.repositories[NAME].blobs, released.blobs) == (1, 0)
    with pytest.raises(BlobUnknown):
        stat(registry)
    push_v2(registry, OTHER, TAG, builders.image(IMAGE.layers[0]))
    collect(registry, clock)
    assert read_blob(registry, OTHER, LAYER) == IMAGE.layers[0]


def test_untagged_manifests_are_kept_by_default(registry: Registry, clock: Clock) -> None:
    """A tag that moved leaves its manifest, and all that it names."""
    push_v2(registry, NAME, TAG, IMAGE)
    push_v2(registry, NAME, TAG, builders.image())
    collect(registry, clock, full=True)
    assert registry.manifests.find(NAME, IMAGE.digest)
    assert read_blob(registry, NAME, LAYER) == IMAGE.layers[0]


@pytest.mark.slow
def test_untagged_manifests_go_by_rule(registry: Registry, clock: Clock) -> None:
    """Those of a moved tag go after their time; children of an index and referrers of a subject stay."""
    registry = with_untagged(registry, timedelta(days=7))
    index = builders.index(IMAGE)
    push_v2(registry, NAME, TAG, IMAGE)
    registry.manifests.put(NAME, Tag("index"), media_types.OCI_INDEX, index)
    subject = builders.descriptor(IMAGE.media_type, IMAGE.manifest)
    document = json.loads(builders.image(oci=True).manifest) | {"subject": subject}
    referrer = json.dumps(document).encode()
    push_v2(registry, NAME, Tag("empty"), builders.image(oci=True))
    registry.manifests.put(NAME, Digest.of(referrer), media_types.OCI_MANIFEST, referrer)
    push_v2(registry, NAME, TAG, builders.image(builders.layer({"c": b"c"})))
    collect(registry, clock, days=10)
    assert registry.manifests.find(NAME, IMAGE.digest)
    assert registry.manifests.find(NAME, Digest.of(referrer))
    registry.tags.delete(NAME, Tag("index"))
    collect(registry, clock, days=6)
    assert registry.manifests.find(NAME, Digest.of(index))
    collect(registry, clock, days=30)
    for gone in (Digest.of(index), IMAGE.digest, Digest.of(referrer)):
        with pytest.raises(ManifestUnknown):
            registry.manifests.find(NAME, gone)
    assert LAYER not in stored(registry)


@pytest.mark.slow
def test_a_diamond_of_indexes_costs_its_nodes(registry: Registry, clock: Clock) -> None:
    """Of 40 levels of two indexes that each name both below, every one goes, once."""
    registry = with_untagged(registry, DAY)
    push_v2(registry, NAME, TAG, IMAGE)
    below = [builders.descriptor(IMAGE.media_type, IMAGE.manifest)]
    for level in range(40):
        documents = [
            json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": below}
                       | {"annotations": {"node": f"{level} {side}"}}).encode()
            for side in range(2)
        ]  # fmt: skip
        for document in documents:
            registry.manifests.put(NAME, Digest.of(document), media_types.OCI_INDEX, document)
        below = [builders.descriptor(media_types.OCI_INDEX, document) for document in documents]
    registry.tags.delete(NAME, TAG)
    removed = 0
    for _ in range(50):
        clock.advance(DAY)
        found = Collection(registry).run().repositories
        removed += sum(each.manifests for each in found.values())
    assert (removed, stored(registry)) == (81, set())


def test_v1_images_without_a_tag_go(registry: Registry, clock: Clock) -> None:
    """A chain that was never tagged goes at once, but for images that a client was told of meanwhile."""
    chain = builders.v1_chain(*IMAGE.layers)
    push_v1(registry, OTHER, TAG, chain)
    push_v1(registry, NAME, TAG, chain)
    manifest = registry.manifests.find(NAME, TAG)
    registry.manifests.delete(NAME, manifest.digest)
    clock.advance(timedelta(hours=23))
    Collection(registry).run()
    registry.v1_images.promise(NAME, chain[0].id)
    clock.advance(timedelta(hours=1))
    Collection(registry).run()
    assert registry.v1_images.get(NAME, chain[0].id)
    with pytest.raises(ImageUnknown):
        registry.v1_images.get(NAME, chain[1].id)
    collect(registry, clock)
    with pytest.raises(ImageUnknown):
        registry.v1_images.get(NAME, chain[0].id)
    assert [row.id for row in registry.v1_images.ancestry(OTHER, chain[1].id)] == [chain[1].id, chain[0].id]
    assert stored(registry) >= {Digest.of(image.layer) for image in chain}


@pytest.mark.slow
def test_a_full_collection_finds_what_was_never_noted(
    registry: Registry, catalog: Catalog, clock: Clock
) -> None:
    """Links, blobs and files that an older version left without a note go; others stay.

    Others are also files that a link file names, which may end with a line break, as editors leave it.
    """
    push_v2(registry, NAME, TAG, IMAGE)
    registry.uploads.ingest(NAME, [b"unused"])
    registry.uploads.ingest(OTHER, [b"unlinked"])
    for content in (b"orphan", b"named", b"edited"):
        with registry.uploads.staging() as staged:
            staged.write([content])
            registry.blobs.state.store.publish(staged.upload, Digest.of(content))
    named = {Digest.of(b"named"): "", Digest.of(b"edited"): "\n"}
    for digest, end in named.items():
        registry.state.links.tree.write_link(blob_link("lost", digest), f"{digest}{end}".encode())
    with catalog.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE repository_blobs SET candidate_since = NULL")
        connection.execute(delete(RepositoryBlobs).where(RepositoryBlobs.digest == Digest.of(b"unlinked")))
    collect(registry, clock)
    assert {Digest.of(b"unused"), Digest.of(b"unlinked")} <= stored(registry)
    clock.instant = clock.instant.replace(year=2100)
    assert collect(registry, clock, full=True).orphans == 1
    assert stored(registry) == {*IMAGE.blobs, IMAGE.digest, *named}


@pytest.mark.slow
def test_an_interrupted_full_collection_goes_on(
    registry: Registry, catalog: Catalog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is interrupted, it looks at everything once."""
    monkeypatch.setattr(sweep, "PAGE", 2)
    unused = [registry.uploads.ingest(NAME, [b"unused %d" % number]).digest for number in range(9)]
    push_v2(registry, NAME, TAG, IMAGE)
    registry.blobs.delete(NAME, unused[0])
    with catalog.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE repository_blobs SET candidate_since = NULL")
        connection.exec_driver_sql("UPDATE blobs SET condemned_at = NULL")
    steps: list[int] = []

    def pace(count: int) -> bool:
        steps.append(count)
        return len(steps) % 4 != 0

    runs = 1
    while not Collection(registry, pace=pace).run(full=True).complete:
        runs += 1
        assert runs < 20
    assert runs > 2
    assert steps.count(2) == 16  # 6 pages of links, 7 of blobs, two ends, and the last one again
    collect(registry, clock)
    assert stored(registry) == {*IMAGE.blobs, IMAGE.digest}


@pytest.mark.slow
def test_a_rebuilt_catalog_knows_the_garbage(
    registry: Registry, store: GuardedStore, tmp_path: Path, clock: Clock
) -> None:
    """What nothing uses, and what is linked to no repository, goes a grace after the rebuild."""
    push_v2(registry, NAME, TAG, IMAGE)
    unused = registry.uploads.ingest(NAME, [b"unused"])
    unlinked = registry.uploads.ingest(OTHER, [b"unlinked"])
    registry.blobs.delete(OTHER, unlinked.digest)
    with empty_database(tmp_path / "rebuilt") as url, closing(Catalog(url, now=clock)) as catalog:
        rebuild = Rebuild(catalog, store)
        rebuild.begin()
        assert rebuild.run().complete
        rebuilt = build_registry(catalog, store)
        clock.advance(DAY / 2)
        Collection(rebuilt).run()
        assert rebuilt.blobs.find(NAME, unused.digest)
        collect(rebuilt, clock)
        assert stored(rebuilt) == {*IMAGE.blobs, IMAGE.digest}
        assert read_blob(rebuilt, NAME, LAYER) == IMAGE.layers[0]


@pytest.mark.slow
def test_cost_follows_the_garbage(registry: Registry, catalog: Catalog, clock: Clock) -> None:
    """A collection of the same garbage executes as many statements beside few images as beside many."""
    counts = []
    for alive in (1, 30):
        for number in range(alive):
            push_v2(registry, OTHER, Tag(f"t{alive}-{number}"), builders.image(b_layer(alive, number)))
        clock.advance(DAY)
        Collection(registry).run()
        registry.uploads.ingest(NAME, [b"garbage %d" % alive])
        clock.advance(DAY)
        statements: list[str] = []
        listen = lambda *given, found=statements: found.append(given[2])  # noqa: E731 -- removed below
        event.listen(catalog.engine, "before_cursor_execute", listen)
        assert Collection(registry).run().repositories[NAME].blobs == 1
        event.remove(catalog.engine, "before_cursor_execute", listen)
        counts.append(len(statements))
    assert abs(counts[0] - counts[1]) <= 6, counts


def b_layer(alive: int, number: int) -> bytes:
    """Return a layer like no other."""
    return builders.layer({"f": f"{alive} {number}".encode()})


ROUNDS = short_or_long(15, 1000)


@pytest.mark.slow
def test_collections_and_pushes_race(registry: Registry) -> None:
    """Whatever two collections do without a grace, an image that was pushed and tagged is whole.

    Its layer is at every moment linked, unlinked, condemned or deleted by others.
    """
    hasty = registry.over(replace(registry.blobs.state, retention=Retention(timedelta(0))))
    hasty.state.catalog.now = utc_now
    done = Event()

    def collect_on() -> int:
        collections = 0
        while not done.is_set():
            Collection(hasty).run()
            collections += 1
        return collections

    def push(number: int) -> None:
        name = RepositoryName(f"race{number}")
        for turn in range(ROUNDS):
            _push_until_whole(hasty, name, builders.image(IMAGE.layers[0], author=f"{number} {turn}"))
            assert read_blob(hasty, name, LAYER) == IMAGE.layers[0]
            hasty.manifests.delete(name, hasty.manifests.find(name, TAG).digest)

    with ThreadPoolExecutor(5) as pool:
        collecting = [pool.submit(collect_on) for _ in range(2)]
        try:
            for pushing in [pool.submit(push, number) for number in range(3)]:
                pushing.result(300)
        finally:
            done.set()
        assert all(each.result(60) for each in collecting)


def test_tags_that_exchange_their_manifests(registry: Registry) -> None:
    """Neither push waits for what the other one holds, although each notes what its tag leaves."""
    images = (IMAGE, builders.image())
    tags = (TAG, Tag("stable"))
    for tag, image in zip(tags, images, strict=True):
        push_v2(registry, NAME, tag, image)
    with ThreadPoolExecutor(2) as pool:
        for turn in range(ROUNDS):
            turned = images if turn % 2 else images[::-1]
            pushing = [
                pool.submit(registry.manifests.put, NAME, tag, image.media_type, image.manifest)
                for tag, image in zip(tags, turned, strict=True)
            ]
            for each in pushing:
                each.result(60)


def _push_until_whole(registry: Registry, name: RepositoryName, image: builders.Image) -> None:
    """Push an image until its blobs are not collected before its manifest names them."""
    while True:
        try:
            push_v2(registry, name, TAG, image)
        except ReferencesMissing:  # without a grace, nothing is promised
            continue
        return
