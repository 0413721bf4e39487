"""S3Store keeps the contract, on a real S3 server, and goes on where that fails for a moment."""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, repeat
from threading import Event
from urllib.parse import parse_qs, urlsplit

import pytest

from dualreg.errors import BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.storage import open_store, s3_store
from dualreg.storage.base import StoreUnavailable
from dualreg.storage.link_tree import StagedLink
from dualreg.storage.object_reader import ObjectReader
from dualreg.storage.s3 import PART, Bucket
from dualreg.storage.s3_library import _errors
from dualreg.storage.s3_store import S3Store, _blob
from tests.contracts.blob_store import DATA, DIGEST, BlobStoreContract
from tests.contracts.radosgw import s3_bucket
from tests.contracts.s3_faults import KINDS, Faults, faulty
from tests.programs import until

pytestmark = pytest.mark.s3

MIB = 1 << 20
#: More than one part, so that it is sent in several.
LARGE = hashlib.shake_128(b"large").digest(PART + MIB)


def opened(url: str) -> S3Store:
    """Return a store as another process opens it."""
    store = open_store(url)
    assert isinstance(store, S3Store)
    return store


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of an empty store."""
    with s3_bucket() as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[S3Store]:
    """An empty store."""
    store = opened(url)
    yield store
    store.close()


class TestS3Store(BlobStoreContract):
    """The contract, in a bucket."""

    is_local = False


@pytest.mark.parametrize(
    "sizes",
    [
        [1, 1, 1],
        [5 * MIB - 1, 1, 7],
        [5 * MIB, 3, 5 * MIB],
        [PART, 1],
        [PART + 1, 2 * PART, 6 * MIB, 9],
        [1, 2 * PART + 1],
    ],
)
def test_an_upload_hops_between_processes(url: str, sizes: list[int]) -> None:
    """Each goes on by the layout that the last one recorded; the blob is made where the bytes are."""
    upload, data = UploadId.new(), hashlib.shake_128(b"hops").digest(sum(sizes))
    layout, offset = "", 0
    for size in sizes:
        process = opened(url)
        process.adopt(upload, layout)
        assert process.append(upload, [data[offset : offset + size]], offset=offset) == offset + size
        layout, offset = process.layout(upload), offset + size
        process.close()
    last = opened(url)
    last.adopt(upload, layout)
    with last.reopen(upload) as reader:
        assert reader.read() == data
        assert (reader.seek(offset // 2), reader.read(9)) == (offset // 2, data[offset // 2 :][:9])
    last.prepare(upload, Digest.of(data))()
    last.publish(upload, Digest.of(data))
    with opened(url).open(Digest.of(data)) as blob:
        assert blob.read() == data
    assert [*last.staged()] == []
    last.close()


def test_an_upload_hops_between_addresses(url: str) -> None:
    """Processes may reach the bucket by different addresses, as when one of them has a new setting."""
    upload, addresses = UploadId.new(), [url, url.replace("127.0.0.1", "localhost")]
    first, second = map(opened, addresses)
    offset = first.append(upload, [b"one"], offset=0)
    second.adopt(upload, first.layout(upload))
    offset = second.append(upload, [b"two"], offset=offset)
    first.adopt(upload, second.layout(upload))
    with first.reopen(upload) as reader:
        assert reader.read() == b"onetwo"
    elsewhere = opened(url.replace("/store", "/other"))
    elsewhere.adopt(upload, first.layout(upload))
    with pytest.raises(BlobMissing):
        elsewhere.reopen(upload)


def test_an_upload_in_small_pieces_takes_little_room(url: str) -> None:
    """What has been written again is deleted, and is left out of the layout, while the upload goes on."""
    upload, layout, bucket = UploadId.new(), "", Bucket.parse(url)
    for size in range(9):
        process = opened(url)
        process.adopt(upload, layout)
        assert process.append(upload, [bytes([size])], offset=size) == size + 1
        layout = process.layout(upload)
        process.close()
        names = {each.key.rpartition("/")[2] for each in bucket.walk("uploads/")}
        assert names == {each.partition(":")[0] for each in layout.split()[1:]}  # after the store's own
        assert len(names) <= 3
    last = opened(url)
    last.adopt(upload, layout)
    last.publish(upload, Digest.of(bytes(range(9))))
    with last.open(Digest.of(bytes(range(9)))) as blob:
        assert blob.read() == bytes(range(9))
    last.close()
    assert [*bucket.walk("uploads/")] == []
    bucket.close()


def test_a_late_writer_changes_nothing(store: S3Store, url: str) -> None:
    """What it adds is not in the layout that counts, and is collected like all that a crash leaves."""
    upload, late = UploadId.new(), opened(url)
    store.append(upload, [b"one"], offset=0)
    late.adopt(upload, store.layout(upload))
    store.append(upload, [b"two"], offset=3)
    late.append(upload, [b"late"], offset=3)
    store.publish(upload, Digest.of(b"onetwo"))
    with store.open(Digest.of(b"onetwo")) as blob:
        assert blob.read() == b"onetwo"
    assert [each.upload for each in late.staged()] == [upload]
    opened(url).discard(upload)
    collector = opened(url)
    collector.discard(upload)
    assert [*collector.staged()] == []
    late.close()


def test_an_unfinished_object_is_collected(store: S3Store, url: str) -> None:
    """One whose process was killed while parts were on their way."""
    upload = UploadId.new()
    bucket = Bucket.parse(url)
    at = bucket._at(f"uploads/{upload}/segment")
    with bucket.client.asking("a test") as client:
        client.create_multipart_upload(**at)
    (found,) = store.staged()
    assert found.upload == upload
    assert abs((datetime.now(UTC) - found.modified_at).total_seconds()) < 60
    store.discard(upload)
    assert [*store.staged()] == []


def test_a_body_that_breaks_leaves_no_parts(store: S3Store) -> None:
    """Those that were sent are given up at once."""

    def chunks() -> Iterator[bytes]:
        yield LARGE
        yield LARGE
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store.append(UploadId.new(), chunks(), offset=0)
    assert [*store.staged()] == []


def test_what_waits_to_be_deleted_is_bounded(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the object store takes; the rest is left to the collection of garbage."""
    monkeypatch.setattr(s3_store, "_UNCLEANED", 2)
    uploads, goes_on, delete = [UploadId.new() for _ in range(5)], Event(), Bucket.delete
    monkeypatch.setattr(Bucket, "delete", lambda *given: (goes_on.wait(), delete(*given)))
    for upload in uploads:
        store.append(upload, [DATA], offset=0)
        store.discard(upload)
    goes_on.set()
    assert {each.upload for each in store.staged()} == {*uploads[2:]}
    store.append(uploads[0], [DATA], offset=0)
    store.discard(uploads[0])
    assert {each.upload for each in store.staged()} == {*uploads[2:]}


def test_a_blob_that_is_replaced_is_not_mixed(store: S3Store) -> None:
    """A reader goes on with the bytes that it began with, or fails."""
    for data in (LARGE, LARGE[::-1]):
        upload = UploadId.new()
        store.append(upload, [data], offset=0)
        store.publish(upload, DIGEST)
        if data is LARGE:
            reader = store.open(DIGEST)
            assert reader.read(9) == LARGE[:9]
    reader.seek(MIB)
    with pytest.raises(StoreUnavailable):
        reader.read(9)
    reader.close()


@pytest.mark.parametrize("late", [False, True])
def test_a_blob_that_is_replaced_is_not_set_aside(
    store: S3Store, url: str, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    """By bytes with the same entity tag, as where the disk of the object store has damaged the first ones.

    That may happen while they are copied, too.
    """

    def push() -> None:
        time.sleep(1.1)  # object stores keep the time in seconds
        bucket.put(key, DATA)

    bucket, key, join = Bucket.parse(url), _blob(DIGEST), Bucket.join
    bucket.put(key, DATA)
    with store.open(DIGEST) as reader:
        if late:
            monkeypatch.setattr(Bucket, "join", lambda *given: (join(*given), push()))
        else:
            push()
        assert store.quarantine(DIGEST, reader) is False
        assert [*bucket.walk("corrupt/")] == []
    with store.open(DIGEST) as reader:
        assert reader.read() == DATA
        monkeypatch.undo()
        assert store.quarantine(DIGEST, reader) is True
    assert store.stat(DIGEST) is None
    assert bucket.fetch(f"corrupt/sha256-{DIGEST.hex}")[1] == DATA  # type: ignore[index]
    bucket.close()


def test_what_has_other_keys_is_not_read(store: S3Store, url: str) -> None:
    """Neither another prefix that begins in the same way, nor objects that are no blobs."""
    store.write_link("a/link", b"1")
    parts = urlsplit(url)
    beside = opened(parts._replace(path=f"{parts.path}2").geturl())
    beside.write_link("b/link", b"2")
    Bucket.parse(url).put("docker/registry/v2/blobs/sha256/xy/nonsense/data", b"")
    assert [*store.walk_links()] == [("a/link", b"1")]
    assert [*beside.walk_links()] == [("b/link", b"2")]
    assert [*store.walk()] == []
    beside.close()


def test_a_bucket_that_does_not_exist_is_named() -> None:
    """By the first request, whatever that is; nothing is taken for an absent blob."""
    with s3_bucket() as url:
        store = opened(url.replace("s3://", "s3://no-"))
        with pytest.raises(StoreUnavailable, match="s3://no-"):
            store.stat(DIGEST)


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("boto3", "botocore")]:
        monkeypatch.setitem(sys.modules, name, None)
    _errors.cache_clear()
    with pytest.raises(StoreUnavailable, match=r"pip install 'dualreg\[s3\]'"):
        open_store("s3://bucket").stat(DIGEST)
    _errors.cache_clear()


@contextmanager
def failing(url: str) -> Iterator[tuple[S3Store, Faults]]:
    """Open a store whose requests go through a proxy that can fail."""
    endpoint = parse_qs(urlsplit(url).query)["endpoint"][0]
    with faulty(endpoint) as (proxy, faults):
        store = opened(url.replace(endpoint.replace(":", "%3A").replace("/", "%2F"), proxy))
        store.stat(DIGEST)  # which finds the bucket
        yield store, faults
        faults.times = 0
        store.close()


def _append(store: S3Store) -> None:
    upload = UploadId.new()
    assert store.append(upload, [LARGE], offset=0) == len(LARGE)
    with store.reopen(upload) as reader:
        assert reader.read() == LARGE
    store.discard(upload)


def _publish(store: S3Store) -> None:
    upload, data = UploadId.new(), LARGE + b"tail"
    for part in (LARGE, b"tail"):
        store.append(upload, [part], offset=0 if part is LARGE else len(LARGE))
    store.prepare(upload, Digest.of(data))()
    store.publish(upload, Digest.of(data))
    with store.open(Digest.of(data), start=3) as blob:
        assert blob.read() == data[3:]


def _read(store: S3Store) -> None:
    with store.open(Digest.of(LARGE)) as blob:
        assert blob.read() == LARGE
    found = store.stat(Digest.of(LARGE))
    assert found is not None
    assert found.size == len(LARGE)


def _move(store: S3Store) -> None:
    """Have the kernel move bytes, after some that are read, and before others."""
    with store.open(Digest.of(LARGE)) as blob, pipe() as (end, begin):
        assert isinstance(blob, ObjectReader)
        pieces = [blob.read(1000)]
        for size in chain((3, 9_000, 70_000, 1), repeat(PART)):
            moved = blob.move(begin, size)
            assert moved <= size
            pieces.append(os.read(end, moved) if moved else b"")
            if size < PART:
                pieces.append(blob.read(5))
            elif not moved:
                break
        assert b"".join(pieces) == LARGE


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Yield a pipe."""
    ends = os.pipe()
    yield ends
    for each in ends:
        os.close(each)


def _delete(store: S3Store) -> None:
    store.delete(DIGEST)
    assert store.stat(DIGEST) is None


def _link(store: S3Store) -> None:
    at = datetime(2020, 1, 2, tzinfo=UTC)
    store.place_links([StagedLink(UploadId.new(), "a", name, b"1", at, once=True) for name in ("x", "y")])
    assert store.read_links(["a/x", "a/z"])[1] is None
    assert store.list_links("a") == ["x", "y"]


WORK = {
    "append": _append,
    "publish": _publish,
    "read": _read,
    "move": _move,
    "delete": _delete,
    "link": _link,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("work", WORK)
def test_what_fails_for_a_moment_is_tried_again(url: str, kind: str, work: str) -> None:
    """Each request of the work, one after another, fails once; the work is done all the same."""
    with failing(url) as (store, faults):
        upload = UploadId.new()
        store.append(upload, [LARGE], offset=0)
        store.publish(upload, Digest.of(LARGE))
        store.flush()
        seen = set[tuple[str, str]]()
        faults.kind, faults.times = kind, 1_000
        faults.wanted = lambda method, path: _is_first(seen, method, path)
        WORK[work](store)


def _is_first(seen: set[tuple[str, str]], method: str, path: str) -> bool:
    request = (method, path.partition("&uploadId")[0])
    is_first = request not in seen
    seen.add(request)
    return is_first


@pytest.mark.parametrize("kind", ["busy", "broken", "lost request", "damaged request", "expired"])
def test_what_fails_for_long_is_an_outage(url: str, kind: str) -> None:
    """Within seconds; nothing is acknowledged, nothing is taken for absent, and what was there stays."""
    with failing(url) as (store, faults):
        upload = UploadId.new()
        store.append(upload, [DATA], offset=0)
        layout = store.layout(upload)
        faults.kind, faults.times = kind, 1_000
        attempts: list[Callable[[], object]] = [
            lambda: store.append(upload, [b"more"], offset=len(DATA)),
            lambda: store.write_link("a/link", b"1", datetime.now(UTC)),
        ]
        if kind != "damaged request":
            attempts += [lambda: store.stat(DIGEST), lambda: store.prepare(upload, DIGEST)]
        for attempt in attempts:
            with pytest.raises(StoreUnavailable):
                attempt()
        faults.times = 0
        assert until(lambda: not _fails(store), 10)
        assert store.layout(upload) == layout
        assert store.read_link("a/link") is None
        store.publish(upload, DIGEST)
        with store.open(DIGEST) as blob:
            assert blob.read() == DATA


def _fails(store: S3Store) -> bool:
    try:
        store.stat(DIGEST)
    except StoreUnavailable:
        return True
    return False


@pytest.mark.parametrize("kind", ["lost tag", "other answer"])
def test_an_answer_of_another_kind_is_an_outage(url: str, kind: str) -> None:
    """As of a server that leaves out what an answer must have, or of one that is no object store."""
    with failing(url) as (store, faults):
        _append(store)
        upload = UploadId.new()
        store.append(upload, [DATA], offset=0)
        store.publish(upload, DIGEST)
        store.flush()
        faults.kind, faults.times = kind, 1_000
        attempts: dict[str, list[Callable[[], object]]] = {
            "lost tag": [
                lambda: store.append(UploadId.new(), [LARGE], offset=0),
                lambda: store.open(DIGEST),
                lambda: store.stat(DIGEST),
            ],
            "other answer": [
                lambda: store.append(UploadId.new(), [LARGE], offset=0),
                lambda: store.list_links(""),
                lambda: store.delete(DIGEST),
            ],
        }
        for attempt in attempts[kind]:
            with pytest.raises(StoreUnavailable):
                attempt()
        faults.times = 0


def test_an_upload_that_is_gone_is_missing(store: S3Store, url: str) -> None:
    """If another process has discarded its bytes, no blob is made of what is left."""
    upload = UploadId.new()
    store.append(upload, [DATA], offset=0)
    Bucket.parse(url).delete(*(each.key for each in Bucket.parse(url).walk("uploads/")))
    with pytest.raises(BlobMissing):
        store.prepare(upload, DIGEST)
    assert store.stat(DIGEST) is None
