"""MovingStore keeps the contract of a store, wherever what is asked for is, and removes it from both."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pytest

from dualreg.errors import BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.storage import Store, open_store
from dualreg.storage.base import StoredBlob, StoreUnavailable
from dualreg.storage.link_tree import FolderLinks, LinkFile, StagedLink
from dualreg.storage.memory import MemoryStore
from dualreg.storage.moving import MovingStore
from dualreg.storage.staging import staging
from tests.contracts.blob_store import DATA, DIGEST, BlobStoreContract
from tests.contracts.radosgw import s3_bucket

KINDS = [
    "file file",
    pytest.param("s3 file", marks=pytest.mark.s3),
    pytest.param("file s3", marks=pytest.mark.s3),
    pytest.param("s3 s3", marks=pytest.mark.s3),
]
AT = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)


def urls_of(kinds: str, folder: Path, stack: ExitStack) -> list[str]:
    """Return the URLs of empty stores of these kinds."""
    return [
        stack.enter_context(s3_bucket()) if kind == "s3" else (folder / f"{number}").as_uri()
        for number, kind in enumerate(kinds.split())
    ]


@pytest.fixture
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """The URLs of two empty stores, of the kinds that the test names."""
    with ExitStack() as stack:
        yield urls_of(request.param, tmp_path, stack)


def publish(store: Store, data: bytes) -> Digest:
    """Make a blob."""
    upload, digest = UploadId.new(), Digest.of(data)
    store.append(upload, [data], offset=0)
    store.publish(upload, digest)
    return digest


class TestMovingStore(BlobStoreContract):
    """The contract, with two folders."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> MovingStore:
        """Two empty stores."""
        first, second = ((tmp_path / name).as_uri() for name in ("first", "second"))
        return MovingStore(open_store(first), open_store(second))


@pytest.mark.s3
class TestMovingToS3(BlobStoreContract):
    """The contract, with a bucket and a folder."""

    is_local = False

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[MovingStore]:
        """Two empty stores."""
        with s3_bucket() as url:
            yield MovingStore(open_store(url), open_store(tmp_path.as_uri()))


@pytest.fixture
def pair() -> Callable[[list[str]], tuple[Store, Store, MovingStore]]:
    """Opens two stores alone, and as one."""

    def opened(urls: list[str]) -> tuple[Store, Store, MovingStore]:
        first, second = map(open_store, urls)
        return first, second, MovingStore(*map(open_store, urls))

    return opened


Pair = Callable[[list[str]], tuple[Store, Store, MovingStore]]


@pytest.mark.parametrize("urls", KINDS, indirect=True)
def test_blobs_of_both_are_served(pair: Pair, urls: list[str]) -> None:
    """Each once; a blob that is deleted is gone from both."""
    first, second, both = pair(urls)
    blobs = b"one", b"two", DATA
    names = {publish(first, b"one"), publish(second, b"two"), publish(first, DATA), publish(second, DATA)}
    assert [each.digest for each in both.walk()] == sorted(names, key=str)
    assert both.look({*names, Digest.of(b"absent")}) == {Digest.of(each): len(each) for each in blobs}
    for data in blobs:
        digest = Digest.of(data)
        assert both.stat(digest) == StoredBlob(digest, len(data))
        with both.open(digest, start=1) as reader:
            assert reader.read() == data[1:]
        at_once = both.read_at_once(digest, len(data), start=1, length=2)
        assert at_once in (None, data[1:3])
        both.delete(digest)
        assert both.stat(digest) is None
        with pytest.raises(BlobMissing):
            both.open(digest)
    assert [*first.walk(), *second.walk()] == []


def test_what_either_has_is_served_while_the_other_one_fails() -> None:
    """What is in neither that answers is not known to be missing."""

    class Silent(MemoryStore):
        """A store that does not answer."""

        def open(self, digest: Digest, *, start: int = 0, length: int | None = None) -> BinaryIO:
            raise StoreUnavailable(f"no answer to {digest} from {start}, {length}")

        def stat(self, digest: Digest) -> StoredBlob | None:
            raise StoreUnavailable(f"no answer to {digest}")

    store = MemoryStore()
    publish(store, DATA)
    for both in (MovingStore(Silent(), store), MovingStore(store, Silent())):
        assert both.stat(DIGEST) == StoredBlob(DIGEST, len(DATA))
        assert both.look([DIGEST]) == {DIGEST: len(DATA)}
        with both.open(DIGEST) as reader:
            assert reader.read() == DATA
        with pytest.raises(StoreUnavailable):
            both.stat(Digest.of(b"other"))
        with pytest.raises(StoreUnavailable):
            both.look([DIGEST, Digest.of(b"other")])
        assert both.url(DIGEST) is None
        with pytest.raises(StoreUnavailable):
            both.open(Digest.of(b"other"))
    with pytest.raises(StoreUnavailable):
        MovingStore(Silent(), store).url(Digest.of(b"other"))


@pytest.mark.parametrize("urls", KINDS, indirect=True)
@pytest.mark.parametrize("place", [0, 1])
def test_a_damaged_blob_is_set_aside_where_it_is(pair: Pair, urls: list[str], place: int) -> None:
    """The other store keeps what it has."""
    *single, both = pair(urls)
    damaged, upload = single[place], UploadId.new()
    damaged.append(upload, [b"damaged"], offset=0)
    damaged.publish(upload, DIGEST)
    with both.open(DIGEST) as reader:
        assert both.quarantine(DIGEST, reader)
        assert not both.quarantine(DIGEST, reader)
    assert both.stat(DIGEST) is None
    publish(single[1 - place], DATA)
    with both.open(DIGEST) as reader:
        assert reader.read() == DATA


def test_a_damaged_file_of_both_is_set_aside_in_both(pair: Pair, tmp_path: Path) -> None:
    """A copy within a file system makes hard links; the next push sends what is damaged."""
    first, second, both = pair([(tmp_path / name).as_uri() for name in "ab"])
    upload = UploadId.new()
    first.append(upload, [b"damaged"], offset=0)
    first.publish(upload, DIGEST)
    with first.open(DIGEST) as reader, staging(second) as staged:
        assert staged.adopt(reader, hard=True)
        staged.publish(DIGEST)
    with both.open(DIGEST) as reader:
        assert both.quarantine(DIGEST, reader)
    assert both.stat(DIGEST) is None
    assert len([*tmp_path.glob("*/corrupt/*")]) == 2


@pytest.mark.parametrize("urls", KINDS, indirect=True)
@pytest.mark.parametrize("swapped", [False, True])
def test_an_upload_hops_between_processes(urls: list[str], swapped: bool) -> None:  # noqa: FBT001
    """It began before the second store was one; every other process may have swapped the stores."""
    old, upload = open_store(urls[1]), UploadId.new()
    offset = old.append(upload, [b"one"], offset=0)
    layout = old.layout(upload)
    for number in range(3):
        process = MovingStore(*map(open_store, urls[::-1] if swapped and number % 2 else urls))
        process.adopt(upload, layout)
        with process.reopen(upload) as reader:
            assert reader.read() == b"one" + b"two" * number
        offset = process.append(upload, [b"two"], offset=offset)
        layout = process.layout(upload)
    last, digest = MovingStore(*map(open_store, urls)), Digest.of(b"onetwotwotwo")
    last.adopt(upload, layout)
    last.prepare(upload, digest)()
    last.publish(upload, digest)
    last.publish(upload, digest)
    with open_store(urls[0]).open(digest) as reader:
        assert reader.read() == b"onetwotwotwo"
    assert [*last.staged()] == []


@pytest.mark.parametrize("swapped", [False, True])
def test_an_upload_is_not_taken_for_one_of_a_bucket_of_the_same_name(swapped: bool) -> None:  # noqa: FBT001
    """As at another object store, where a registry moves to."""
    upload = UploadId.new()
    stores = [open_store(f"s3://name/prefix?endpoint=http://{address}.invalid") for address in "ab"]
    stores[0].adopt(upload, "segment:3:3")
    layout = stores[0].layout(upload)
    both = MovingStore(*(stores[::-1] if swapped else stores))
    both.adopt(upload, layout)
    assert both.layout(upload) == layout


@pytest.mark.parametrize("urls", KINDS, indirect=True)
def test_bytes_that_were_not_recorded_do_not_count(urls: list[str]) -> None:
    """A process that failed to record them, and whose stores are swapped, goes on where others have begun."""
    upload = UploadId.new()
    failed, other = MovingStore(*map(open_store, urls)), MovingStore(*map(open_store, urls[::-1]))
    failed.append(upload, [b"stale"], offset=0)
    offset = other.append(upload, [b"one"], offset=0)
    failed.adopt(upload, other.layout(upload))
    assert failed.append(upload, [b"two"], offset=offset) == 6
    other.adopt(upload, failed.layout(upload))
    with other.reopen(upload) as reader:
        assert reader.read() == b"onetwo"


@pytest.mark.parametrize("urls", KINDS, indirect=True)
def test_an_upload_of_the_second_store_may_change(pair: Pair, urls: list[str]) -> None:
    """What was prepared before that is no other blob, and nothing of it is left at the end."""
    _, second, both = pair(urls)
    upload, longer = UploadId.new(), Digest.of(DATA + b"!")
    second.append(upload, [DATA], offset=0)
    both.adopt(upload, second.layout(upload))
    both.prepare(upload, DIGEST)()
    assert both.append(upload, [b"!"], offset=len(DATA)) == len(DATA) + 1
    both.prepare(upload, longer)()
    both.delete(longer)
    both.publish(upload, longer)
    with both.open(longer) as reader:
        assert reader.read() == DATA + b"!"
    with pytest.raises(BlobMissing):
        both.reopen(upload)
    dropped = UploadId.new()
    second.append(dropped, [DATA], offset=0)
    both.adopt(dropped, second.layout(dropped))
    assert [each.upload for each in both.staged()] == [dropped]
    both.discard(dropped)
    assert [*both.staged()] == []


def test_bytes_that_changed_on_their_way_are_no_blob() -> None:
    """Those of the second store are hashed once more."""
    first, second = MemoryStore(), MemoryStore()
    upload, both = UploadId.new(), MovingStore(first, second)
    second.append(upload, [b"damaged"], offset=0)
    with pytest.raises(BlobMissing):
        both.prepare(upload, DIGEST)
    assert [*first.walk(), *first.staged()] == []


@pytest.mark.parametrize("urls", KINDS, indirect=True)
def test_links_of_both_are_read(pair: Pair, urls: list[str]) -> None:
    """Those of the first store count; what is removed comes back from neither, unless it is undone."""
    first, second, both = pair(urls)
    first.write_link("a-b/_v1/x", b"first", AT)
    for path in ("a-b/_v1/x", "a-b/_v1/y", "a/_v1/x", "a/_v1/z"):
        second.write_link(path, b"second", AT)
    paths = ["a-b/_v1/x", "a-b/_v1/y", "a/_v1/x", "a/_v1/z"]
    assert [*both.walk_links()] == [
        (paths[0], b"first"),
        *((path, b"second") for path in paths[1:]),
    ]
    assert [*both.link_paths()] == paths
    assert both.read_link(paths[0]) == LinkFile(b"first", AT)
    assert both.read_links([*paths, "absent"])[1:] == [LinkFile(b"second", AT)] * 3 + [None]
    assert both.list_links("") == ["a-b/", "a/"]
    assert both.list_links("a-b/_v1") == ["x", "y"]
    aside = UploadId.new()
    folder = FolderLinks("a-b/_v1", ("x", "y"))
    both.set_aside(aside, folder)
    assert [*both.link_paths()] == paths[2:]
    both.bring_back(aside, folder)
    assert both.read_link(paths[0]) == LinkFile(b"first", AT)
    assert [*both.link_paths()] == paths
    both.remove_link(*paths[:2])
    both.quarantine_link(paths[2])
    link = StagedLink(UploadId.new(), "a/_v1", "z", b"moved", AT)
    both.stage_links([link])
    both.place_links([link])
    both.write_link("c/_v1/x", b"new", AT)
    assert [*both.walk_links()] == [(paths[3], b"moved"), ("c/_v1/x", b"new")]
    assert [*second.link_paths()] == [paths[3]]


@pytest.mark.s3
def test_what_is_set_aside_comes_back_from_one_bucket_by_two_addresses() -> None:
    """Which nothing shows to be one: there is nothing left to be set aside for the second address."""
    with s3_bucket() as url:
        both = MovingStore(open_store(url), open_store(url.replace("127.0.0.1", "localhost")))
        both.write_link("a/_v1/x", b"x", AT)
        aside, folder = UploadId.new(), FolderLinks("a/_v1", ("x",))
        both.set_aside(aside, folder)
        assert [*both.link_paths()] == []
        both.bring_back(aside, folder)
        assert both.read_link("a/_v1/x") == LinkFile(b"x", AT)
        both.set_aside(aside, FolderLinks("absent", ("x",)))
        assert [*both.staged()] == []


def test_private_files_are_read_from_both(pair: Pair, tmp_path: Path) -> None:
    """The first one counts once it was written."""
    first, second, both = pair([(tmp_path / name).as_uri() for name in "ab"])
    second.write_private("access.json", b"old")
    assert both.read_private("access.json") == b"old"
    both.write_private("access.json", b"")
    assert both.read_private("access.json") == b""
    assert (first.read_private("access.json"), second.read_private("access.json")) == (b"", b"old")


def test_nginx_sends_what_the_first_store_has(pair: Pair, tmp_path: Path) -> None:
    """A blob of the second one is not where nginx looks."""
    first, second, both = pair([(tmp_path / name).as_uri() for name in "ab"])
    publish(first, DATA)
    assert both.internal_path(DIGEST) == f"sha256/{DIGEST.hex[:2]}/{DIGEST.hex}/data"
    assert both.internal_path(publish(second, b"other")) is None
    assert MovingStore(MemoryStore(), second).internal_path(DIGEST) is None
