"""A registry in a bucket: its garbage goes, its damage is found, and its catalog is made from the bucket."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from dualreg.assembly import build_registry, open_registry, prepare
from dualreg.catalog.database import Catalog, utc_now
from dualreg.errors import BlobUnknown, ManifestUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag, UploadId
from dualreg.maintenance.fsck.check import Check
from dualreg.maintenance.gc import Collection
from dualreg.maintenance.scrubbing import AGE, Scrubber
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage import Store, open_store
from dualreg.storage.s3 import Bucket
from dualreg.storage.s3_store import _blob
from tests import builders
from tests.apps import client_of
from tests.conftest import Clock
from tests.contracts.radosgw import s3_bucket, settings_of
from tests.maintenance.world import fill, known_rows, rebuilt_rows
from tests.properties.registries import push_v2, read_blob

pytestmark = pytest.mark.s3

NAME, TAG, OTHER = RepositoryName("team/app"), Tag("1"), Tag("2")
REPOSITORIES = "docker/registry/v2/repositories/"
KEPT = builders.image(builders.layer({"a": b"1"}), builders.layer({"b": b"2"}))
DROPPED = builders.image(builders.layer({"a": b"1"}), builders.layer({"c": b"3"}))


class Held(NamedTuple):
    """A registry, and the bucket that it is in."""

    registry: Registry
    bucket: Bucket
    store: Store
    url: str

    def keys(self, prefix: str) -> set[str]:
        """Return the keys in the bucket that begin with a prefix."""
        return {each.key for each in self.bucket.walk(prefix)}


@pytest.fixture
def held(catalog: Catalog, clock: Clock) -> Iterator[Held]:
    """An empty one, whose clock begins now, as that of the bucket."""
    clock.advance(utc_now() - clock())
    with s3_bucket() as url:
        store, bucket = open_store(url), Bucket.parse(url)
        yield Held(build_registry(catalog, store), bucket, store, url)
        store.close()  # type: ignore[attr-defined] -- S3Store's
        bucket.close()


def test_every_row_comes_back_from_the_bucket(tmp_path: Path) -> None:
    """Of all that was pushed over both APIs, converted, moved and deleted; all of it is sound."""
    with s3_bucket() as url:
        settings = Settings(data=tmp_path / "data", audit="off", sparse_indexes=True, **settings_of(url))
        prepare(settings)
        with closing(open_registry(settings)) as registry:
            fill(client_of(registry, settings))
            state = registry.state
            assert [*Check(state.catalog, state.store, registry.integrity, read=True).run()] == []
            before, after = known_rows(state.catalog), rebuilt_rows(open_store(url), tmp_path)
            del before["signing_keys"], after["signing_keys"]  # which the command unseals
            assert after == before


def lose(bucket: Bucket, key: str) -> None:
    """Delete an object."""
    bucket.delete(key)


def cut(bucket: Bucket, key: str) -> None:
    """Cut the last byte."""
    bucket.put(key, bucket.fetch(key)[1][:-1])  # type: ignore[index]


def flip(bucket: Bucket, key: str) -> None:
    """Change a bit."""
    content = bucket.fetch(key)[1]  # type: ignore[index]
    bucket.put(key, content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("damage", [lose, cut, flip])
def test_damage_is_found(held: Held, clock: Clock, damage: Callable[[Bucket, str], None]) -> None:
    """Of blobs, and of link files; a check leaves all where it is."""
    push_v2(held.registry, NAME, TAG, KEPT)
    digest = Digest.of(KEPT.layers[0])
    tag = f"team/app/_manifests/tags/{TAG}/current/link"
    for key in (_blob(digest), REPOSITORIES + tag):
        damage(held.bucket, key)
    clock.advance(timedelta(days=1))
    catalog = held.registry.state.catalog
    with closing(open_store(held.url)) as store:  # type: ignore[type-var] -- S3Store's
        check = Check(catalog, store, build_registry(catalog, store).integrity, read=True)
        assert {finding.where for finding, _ in check.run()} >= {str(digest), tag}
    assert held.keys("corrupt/") == set()


def test_damage_is_found_while_serving(held: Held, clock: Clock) -> None:
    """By the thread that reads blobs in the background, which sets it aside; the next push brings it back."""
    push_v2(held.registry, NAME, TAG, KEPT)
    digest = Digest.of(KEPT.layers[0])
    flip(held.bucket, _blob(digest))
    clock.advance(AGE + timedelta(seconds=1))
    Scrubber(held.registry.state.catalog, held.registry.integrity, 1 << 30).scrub_stale()
    assert held.registry.integrity.damaged() == 1
    assert held.keys("corrupt/") == {f"corrupt/sha256-{digest.hex}"}
    with pytest.raises(BlobUnknown):
        held.registry.blobs.require(held.registry.blobs.stat(NAME, digest))
    push_v2(held.registry, NAME, TAG, KEPT)
    assert read_blob(held.registry, NAME, digest) == KEPT.layers[0]
    assert held.registry.integrity.damaged() == 0


def test_garbage_goes_and_nothing_else(held: Held, clock: Clock) -> None:
    """What a deleted image alone had; first it is only named."""
    push_v2(held.registry, NAME, TAG, KEPT)
    push_v2(held.registry, NAME, OTHER, DROPPED)
    held.registry.manifests.delete(NAME, DROPPED.digest)
    gone = {DROPPED.digest, *DROPPED.blobs} - {KEPT.digest, *KEPT.blobs}
    kept = {KEPT.digest, *KEPT.blobs}
    for _ in range(2):  # once the links go, and once the blobs
        clock.advance(timedelta(days=2))
        before = held.keys("")
        assert Collection(held.registry, dry_run=True).run().complete
        assert held.keys("") == before
        Collection(held.registry).run(full=True)
    assert {blob.digest for blob in held.store.walk()} == kept
    assert not [key for key in held.keys(REPOSITORIES) for digest in gone if digest.hex in key]
    assert read_blob(held.registry, NAME, Digest.of(KEPT.layers[1])) == KEPT.layers[1]
    with pytest.raises(ManifestUnknown):
        held.registry.manifests.find(NAME, DROPPED.digest)


def test_what_a_killed_process_leaves_goes(held: Held, clock: Clock) -> None:
    """Segments, with or without a row, half an object, a blob without a row, and files set aside."""
    registry, bucket = held.registry, held.bucket
    started = registry.uploads.start(NAME).id
    registry.uploads.append(NAME, started, [b"segment"])
    bucket.put(f"uploads/{UploadId.new()}/segment", b"late")
    bucket.put(f"uploads/{UploadId.new()}/links", b"{}")
    bucket.put(_blob(Digest.of(b"published")), b"published")
    key = f"uploads/{UploadId.new()}/segment"
    with bucket.client.asking(key) as client:
        client.create_multipart_upload(**bucket._at(key))
    for _ in range(2):
        clock.advance(timedelta(days=2))
        Collection(registry).run(full=True)
    assert [*held.store.staged()] == []
    assert held.keys("uploads/") == set()
    assert [*held.store.walk()] == []
