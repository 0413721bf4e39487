"""Layers in zstd have a gzip edition, which is made once and is a blob like any other."""

import gzip
import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import Lease
from dualreg.errors import (
    BlobDamaged,
    BlobMissing,
    BlobUnknown,
    ImageInvalid,
    LayersPending,
    ManifestUnknown,
)
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import inflated, regzip
from dualreg.image.manifest import parse
from dualreg.image.names import RepositoryName, Tag
from dualreg.maintenance.gc import Collection
from dualreg.registry import Registry, flights, transcoding
from dualreg.registry.accept import Accept, Agent
from dualreg.registry.flights import Flights
from dualreg.registry.rules import Rules
from dualreg.registry.state import Retention, State
from dualreg.registry.transcoding import LEASE
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.links import Links
from tests import builders
from tests.builders import zstd_compress
from tests.conftest import Clock, GuardedStore
from tests.databases import empty_database
from tests.programs import until
from tests.properties.registries import push_v2, read_blob

NAME, OTHER = RepositoryName("team/app"), RepositoryName("other/app")
LAYERS = [builders.layer({"a": hashlib.shake_256(b"a").digest(9000)}), builders.layer({"b": b"b" * 900})]
IMAGE = builders.zstd_image(*LAYERS)
SOURCES = [Digest.of(layer) for layer in IMAGE.layers]
DESCRIPTORS = [Descriptor(media_types.OCI_LAYER_ZSTD, Digest.of(layer), len(layer)) for layer in IMAGE.layers]


def test_layers_are_transcoded_once(registry: Registry, store: GuardedStore) -> None:
    """They uncompress to the same bytes. Repositories that have the layers share the result."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    plain = Descriptor(media_types.OCI_LAYER_GZIP, Digest.of(b"gzip"), 4)
    made = registry.transcoding.gzipped(NAME, [*DESCRIPTORS, plain])
    assert [*made] == SOURCES
    for source, layer in zip(SOURCES, LAYERS, strict=True):
        assert made[source].media_type == media_types.OCI_LAYER_GZIP
        content = read_blob(registry, NAME, made[source].digest)
        assert len(content) == made[source].size
        assert gzip.decompress(content) == gzip.decompress(layer)
    push_v2(registry, OTHER, Tag("1"), IMAGE)
    store.delete(SOURCES[0])
    assert registry.transcoding.gzipped(OTHER, DESCRIPTORS) == made
    for each in made.values():
        read_blob(registry, OTHER, each.digest)


def test_a_repository_without_the_layer_gets_no_edition(registry: Registry) -> None:
    """Not even one that another repository has."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    (made, *_) = registry.transcoding.gzipped(NAME, DESCRIPTORS).values()
    push_v2(registry, OTHER, Tag("1"), builders.image(LAYERS[0]))
    for name in (OTHER, RepositoryName("no/such")):
        with pytest.raises(BlobUnknown):
            registry.transcoding.gzipped(name, DESCRIPTORS)
        assert registry.blobs.find(name, made.digest) is None


@pytest.mark.slow
def test_layers_that_cannot_be_read(registry: Registry, store: GuardedStore) -> None:
    """Those that were pushed so are told from those that are lost or damaged in the store."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    bomb = zstd_compress(bytes(200 << 20))
    for broken, why in ((IMAGE.layers[0][:-9], "truncated"), (bomb, "more than 1100 times its size")):
        registry.uploads.ingest(NAME, [broken])
        descriptor = Descriptor(media_types.OCI_LAYER_ZSTD, Digest.of(broken), len(broken))
        with pytest.raises(ImageInvalid, match=why):
            registry.transcoding.gzipped(NAME, [descriptor])
    store._blobs[SOURCES[0]] = store._blobs[SOURCES[0]][:-9]
    with pytest.raises(BlobDamaged):
        registry.transcoding.gzipped(NAME, DESCRIPTORS)
    store.delete(SOURCES[0])
    with pytest.raises(BlobMissing):
        registry.transcoding.gzipped(NAME, DESCRIPTORS)
    assert not [*store.staged()]


@dataclass
class Compressing:
    """The compression of layers, which waits until it is let go on, and counts.

    Attributes:
        free: Is set when it may go on.
        begun: The number of layers that it has begun with.
    """

    free: threading.Event = field(default_factory=threading.Event)
    begun: int = 0

    def __call__(self, chunks: Iterable[bytes], *updates: object) -> Iterator[bytes]:
        """Compress a layer."""
        self.begun += 1
        pieces = regzip(chunks, *updates)  # type: ignore[arg-type]  # as they are
        for piece in pieces:
            while not self.free.wait(0.01):
                for update in updates[-1:]:
                    update(b"")  # type: ignore[operator]  # renews the lease
            yield piece


@pytest.fixture
def compressing(monkeypatch: pytest.MonkeyPatch) -> Compressing:
    """What compresses layers for the registries of this process."""
    compressing = Compressing()
    monkeypatch.setattr(transcoding, "regzip", compressing)
    return compressing


@pytest.fixture
def instances(tmp_path: Path, clock: Clock) -> Iterator[list[Registry]]:
    """Three servers of one registry, which wait for a moment for what is made in the background."""
    rules = Rules(transcoding_patience=0.05)
    with empty_database(tmp_path) as url, ExitStack() as stack:
        registries = []
        for _ in range(3):
            store = FilesystemStore(tmp_path / "store")
            catalog = stack.enter_context(closing(Catalog(url, now=clock)))
            registries.append(Registry.build(State(catalog, store, Links(store)), rules))
        yield registries
        for each in registries:
            each.transcoding.close()


def patiently(
    registry: Registry, repository: RepositoryName = NAME, descriptors: Sequence[Descriptor] = DESCRIPTORS
) -> set[Digest]:
    """Return the gzip editions, asking until they are made."""
    while True:
        with suppress(LayersPending):
            made = registry.transcoding.gzipped(repository, descriptors)
            return {each.digest for each in made.values()}


@pytest.mark.slow
def test_all_who_ask_at_once_get_one_edition(instances: list[Registry], compressing: Compressing) -> None:
    """Threads of several servers: each layer is compressed once; who does not wait is asked to come again."""
    for name in (NAME, OTHER):
        push_v2(instances[0], name, Tag("1"), IMAGE)
    with pytest.raises(LayersPending):
        instances[0].transcoding.gzipped(NAME, DESCRIPTORS)
    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(patiently, instances[n % 3], (NAME, OTHER)[n % 2]) for n in range(10)]
        time.sleep(0.5)
        assert not any(each.done() for each in asked)
        compressing.free.set()
        answers = [each.result(30) for each in asked]
    assert len(set(map(frozenset, answers))) == 1
    assert compressing.begun == len(SOURCES)
    for name in (NAME, OTHER):
        for digest in answers[0]:
            read_blob(instances[0], name, digest)


@pytest.mark.parametrize("has_ended", [True, False])
def test_an_edition_that_a_dead_process_began(
    instances: list[Registry], clock: Clock, monkeypatch: pytest.MonkeyPatch, *, has_ended: bool
) -> None:
    """Another one makes it: at once if the first is known to have ended, else when its lease has run out."""
    push_v2(instances[0], NAME, Tag("1"), IMAGE)
    for source in SOURCES:
        with instances[0].state.catalog.begin() as tx:
            assert tx.transcoded.lease(source, Lease("dead", "process"), duration=LEASE)
    monkeypatch.setattr(transcoding, "has_ended", lambda name: has_ended and name == "process")
    if not has_ended:
        with pytest.raises(LayersPending):
            instances[1].transcoding.gzipped(NAME, DESCRIPTORS)
        clock.advance(LEASE * 1.1)
    assert len(patiently(instances[1])) == len(SOURCES)


@pytest.mark.slow
def test_a_lease_is_renewed(instances: list[Registry], compressing: Compressing, clock: Clock) -> None:
    """As long as the layer is read, no other process begins; one that lost its lease stores nothing."""
    push_v2(instances[0], NAME, Tag("1"), IMAGE)
    for _ in range(6):
        clock.advance(LEASE * 0.6)
        for registry in instances:
            with pytest.raises(LayersPending):
                registry.transcoding.gzipped(NAME, DESCRIPTORS)
    assert compressing.begun == len(SOURCES)
    with instances[0].state.catalog.begin() as tx:
        for source in SOURCES:
            held = tx.transcoded.held(source)
            assert held
            assert tx.transcoded.lease(source, Lease("other", ""), duration=LEASE, over=held.token)
    clock.advance(LEASE * 0.6)
    assert until(lambda: not [*instances[0].state.store.staged()])
    compressing.free.set()
    with instances[0].state.catalog.read() as tx:
        assert {tx.transcoded.held(source) for source in SOURCES} == {Lease("other", "")}
        assert tx.transcoded.find(SOURCES) == {}


def test_a_server_that_stops_begins_nothing(instances: list[Registry], compressing: Compressing) -> None:
    """What it was making is left to others at once, without a trace."""
    push_v2(instances[0], NAME, Tag("1"), IMAGE)
    with pytest.raises(LayersPending):
        instances[0].transcoding.gzipped(NAME, DESCRIPTORS)
    instances[0].transcoding.close()
    assert not [*instances[0].state.store.staged()]
    compressing.free.set()
    assert len(patiently(instances[1])) == len(SOURCES)


def test_a_server_that_stops_does_not_wait_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that comes from a registry which does not answer would keep the server from its end."""
    monkeypatch.setattr(flights, "_GRACE", 0.1)
    answered, ended = threading.Event(), threading.Event()
    work = Flights(1)
    work.start("stuck", answered.wait)
    waiting = work.start("waiting", ended.set)
    threading.Thread(target=lambda: (work.close(), ended.set())).start()
    assert ended.wait(30)
    assert waiting.cancelled()
    answered.set()


def test_an_unreadable_layer_is_read_once(instances: list[Registry], compressing: Compressing) -> None:
    """Until there is another version of the rules."""
    compressing.free.set()
    broken = IMAGE.layers[0][:-9]
    instances[0].uploads.ingest(NAME, [broken])
    descriptor = Descriptor(media_types.OCI_LAYER_ZSTD, Digest.of(broken), len(broken))
    for registry in instances:
        with pytest.raises(ImageInvalid):
            patiently(registry, NAME, [descriptor])
    assert compressing.begun == 1


def other_zlib(chunks: Iterable[bytes], *updates: object) -> Iterator[bytes]:
    """Compress a layer as another library might."""
    plain = b"".join(inflated(chunks, zstd=True))
    for update in updates:
        update(plain)  # type: ignore[operator]  # as they are
    yield gzip.compress(plain, 1, mtime=0)


ACCEPT = Accept(
    frozenset({media_types.OCI_MANIFEST, media_types.OCI_INDEX}), agent=Agent.of("docker/20.10.24")
)


def found(registry: Registry, repository: RepositoryName = NAME) -> Digest:
    """Return the digest that Docker 20.10 gets by tag."""
    return registry.negotiation.find(repository, Tag("1"), ACCEPT).digest


def pulled(registry: Registry, repository: RepositoryName = NAME) -> set[Digest]:
    """Return the layers that Docker 20.10 gets by tag, all of which can be pulled."""
    got = registry.negotiation.find(repository, Tag("1"), ACCEPT)
    if got.media_type in media_types.INDEXES:
        (entry,) = parse(got.media_type, got.read()).described(Role.MANIFEST)
        got = registry.negotiation.find(repository, entry.digest, ACCEPT)
    layers = parse(got.media_type, got.read()).described(Role.LAYER)
    for each in layers:
        blob = registry.blobs.stat(repository, each.digest)
        registry.blobs.require(blob)
        gzip.decompress(read_blob(registry, repository, each.digest))
    return {each.digest for each in layers}


def test_a_lost_edition_that_zlib_would_not_make_again(
    registry: Registry, store: GuardedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one takes its place, once it is found to be lost."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    before = pulled(registry)
    monkeypatch.setattr(transcoding, "regzip", other_zlib)
    assert pulled(registry) == before
    for digest in before:
        store.delete(digest)
        with pytest.raises(BlobUnknown):
            registry.blobs.require(registry.blobs.stat(NAME, digest))
    assert pulled(registry).isdisjoint(before)


def everything(registry: Registry) -> tuple[set[Digest], set[Digest], int]:
    """Return the blobs in the store, those derived of the tagged image, and how many layers have editions."""
    row = registry.manifests.find(NAME, Tag("1"))
    with registry.state.catalog.read() as tx:
        made = tx.transcoded.find(SOURCES)
    derived = {blob.digest for blob in registry.derived.blobs(NAME, row.digest)}
    return {blob.digest for blob in registry.state.store.walk()}, derived, len(made)


@pytest.mark.parametrize("listed", [False, True])
def test_editions_that_another_version_made(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch, *, listed: bool
) -> None:
    """They are found by what they were made of: nothing is made again, and nothing is left behind."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    if listed:
        index = builders.index(IMAGE, architectures=["amd64"])
        registry.manifests.put(NAME, Tag("1"), media_types.OCI_INDEX, index)
    given = found(registry)
    layers = pulled(registry)
    before = everything(registry)
    monkeypatch.setattr(transcoding, "MADE_BY", "1 zlib 99.9")
    monkeypatch.setattr(transcoding, "regzip", other_zlib)
    for _ in range(2):
        registry = registry.over(registry.state)  # as after a restart
        assert found(registry) == given
        assert registry.negotiation.find(NAME, given, ACCEPT).digest == given
        assert pulled(registry) == layers
        assert everything(registry) == before
        for _ in range(3):
            Collection(registry).run()
            clock.advance(timedelta(days=1))
    push_v2(registry, OTHER, Tag("1"), IMAGE)  # shares what was made
    assert pulled(registry, OTHER) == layers
    registry.manifests.delete(NAME, registry.manifests.find(NAME, Tag("1")).digest)


@pytest.mark.slow
def test_an_index_whose_editions_are_lost(
    registry: Registry, store: GuardedStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, as if another registry had collected them; zlib would make others now.

    Clients get those by tag, once they have found out what is lost. What is replaced is garbage.
    """
    push_v2(registry, NAME, Tag("1"), IMAGE)
    pushed = {blob.digest for blob in store.walk()}
    index = builders.index(IMAGE, architectures=["amd64"])
    registry.manifests.put(NAME, Tag("1"), media_types.OCI_INDEX, index)
    given, layers = found(registry), pulled(registry)
    for digest in {blob.digest for blob in store.walk()} - pushed - {Digest.of(index)}:
        store.delete(digest)
    monkeypatch.setattr(transcoding, "regzip", other_zlib)
    registry = registry.over(registry.state)
    for _ in range(5):
        with suppress(BlobUnknown, BlobMissing, ManifestUnknown):
            if pulled(registry).isdisjoint(layers):
                break
    assert pulled(registry).isdisjoint(layers)
    assert found(registry) != given
    day = timedelta(days=1)
    registry = registry.over(replace(registry.state, retention=Retention(day, day)))
    for _ in range(5):
        Collection(registry).run()
        clock.advance(timedelta(days=1))
    assert registry.manifests.peek(NAME, given) is None
    assert not {blob.digest for blob in store.walk()} & layers
    assert pulled(registry).isdisjoint(layers)


def test_what_is_known_of_editions_may_be_lost(registry: Registry, store: GuardedStore) -> None:
    """As when the catalog is made from the store: they are found by the manifests that name them."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    before = pulled(registry)
    with registry.state.catalog.begin() as tx:
        for source in SOURCES:
            for digest in before:
                tx.transcoded.forget(source, digest)
    for digest in before:
        store.delete(digest)
    assert pulled(registry.over(registry.state)) == before


def test_editions_are_garbage_without_what_needs_them(registry: Registry, clock: Clock) -> None:
    """A manifest that names them keeps them, as long as the one that it was made of is there."""
    for name in (NAME, OTHER):
        push_v2(registry, name, Tag("1"), IMAGE)
    kept = pulled(registry)
    only = {each.digest for each in registry.transcoding.gzipped(OTHER, DESCRIPTORS).values()}
    assert only == kept

    def held(name: RepositoryName) -> set[Digest]:
        for _ in range(4):
            Collection(registry).run()
            clock.advance(timedelta(days=1))
        return {digest for digest in kept if registry.blobs.find(name, digest)}

    assert (held(NAME), held(OTHER)) == (kept, set())
    registry.manifests.delete(NAME, IMAGE.digest)
    assert held(NAME) == set()
    with registry.state.catalog.read() as tx:
        assert tx.transcoded.find(SOURCES) == {}
