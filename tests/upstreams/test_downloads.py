"""Downloads: each blob is transferred once, read while it arrives, and to its end only if it is right."""

import io
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import BlobRow, UnderwayRow
from dualreg.errors import BlobUnknown, DownloadFailed, RegistryError, ServerBusy
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.registry import Registry, incoming
from dualreg.storage import Store
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.memory import MemoryStore
from dualreg.storage.s3_store import S3Store
from dualreg.upstreams import flights
from dualreg.upstreams.downloads import Downloads
from dualreg.upstreams.flights import HELD_BACK
from dualreg.upstreams.limits import Limits
from tests.contracts.radosgw import s3_bucket
from tests.programs import until
from tests.upstreams.fakes import FakeSource

NAME, OTHER = RepositoryName("hub/app"), RepositoryName("hub/other")
CONTENT = random.Random(18).randbytes(1 << 20)  # noqa: S311 -- no secret
BLOB = BlobRow(Digest.of(CONTENT), len(CONTENT))
#: For what does not depend on the store, and on how far away it is.
NEAR = pytest.mark.parametrize("stores", ["files", "memory"], indirect=True)
ONE = pytest.mark.parametrize("stores", ["files"], indirect=True)
#: A moment in which a thread does what it can do.
MOMENT = 0.3


@pytest.fixture(params=["files", "memory", pytest.param("bucket", marks=pytest.mark.s3)])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Store]]:
    """One of files, which grow, and others that show what is durable only; as two processes have it."""
    if request.param == "files":
        yield [FilesystemStore(tmp_path / "store") for _ in range(2)]
    elif request.param == "memory":
        yield [MemoryStore()] * 2
    else:
        with s3_bucket() as url, closing(S3Store.at(url)) as one, closing(S3Store.at(url)) as other:
            yield [one, other]


@pytest.fixture
def site(catalog: Catalog, stores: list[Store], monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry over it."""
    monkeypatch.setattr(incoming, "_SHORT_STEP", 1 << 16)
    return build_registry(catalog, stores[0])


@pytest.fixture
def process(site: Registry) -> Downloads:
    """The downloads of a process."""
    return Downloads(site.incoming, "upstream", Limits(8))


@pytest.fixture
def other_process(site: Registry, catalog: Catalog, stores: list[Store]) -> Downloads:
    """Those of another one, with the same catalog and store."""
    del site  # which comes first
    return Downloads(build_registry(catalog, stores[1]).incoming, "upstream", Limits(8))


@pytest.fixture
def source() -> Iterator[FakeSource]:
    """An upstream that is allowed everything in the end, so that no thread stays."""
    fake = FakeSource(CONTENT)
    yield fake
    fake.allow()


def stored(registry: Registry, repository: RepositoryName = NAME) -> bytes:
    """Return the blob as it is kept."""
    registry.blobs.stat(repository, BLOB.digest)
    with registry.blobs.open(BLOB.digest) as reader:
        return reader.read()


def is_stored(registry: Registry, repository: RepositoryName = NAME) -> bool:
    """Return whether the repository has the blob."""
    return registry.blobs.find(repository, BLOB.digest) is not None


def test_many_readers_cause_one_transfer(
    site: Registry, process: Downloads, other_process: Downloads, source: FakeSource
) -> None:
    """In two processes, from two repositories, and from any byte on: all get the same bytes."""
    readers, barrier, counted = 16, Barrier(16), Counter[str]()
    process.count = other_process.count = lambda **counts: counted.update(counts)

    def read(number: int) -> bool:
        barrier.wait()
        name, start = (NAME, OTHER)[number % 2], number * 4096
        with (process, other_process)[number // 2 % 2].open(name, BLOB, source) as reader:
            reader.seek(start)
            return io.BufferedReader(reader).read() == CONTENT[start:]

    with ThreadPoolExecutor(readers) as pool:
        assert all(pool.map(read, range(readers)))
    assert source.opened == [0]
    assert counted == {"misses": 1, "bytes": len(CONTENT)}
    assert stored(site, NAME) == stored(site, OTHER) == CONTENT
    assert [*site.state.store.staged()] == []


def test_what_a_reader_knew_earlier_changes_nothing(site: Registry) -> None:
    """One that goes on with an earlier row, in the process that fetches: all bytes are kept."""
    rows = list[UnderwayRow]()

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(CONTENT), 1 << 14):
            yield CONTENT[start : start + (1 << 14)]
            found = site.incoming.look(BLOB.digest)
            assert found
            if found.row.offset or site.incoming.grows:
                rows.append(found.row)
                site.incoming.open(rows[len(rows) // 2], 0).close()

    with site.incoming.receive(NAME, BLOB, lambda _: None) as receiving:
        receiving.write(chunks())
        site.incoming.open(rows[len(rows) // 2], 0).close()
        receiving.finish(NAME)
    assert stored(site) == CONTENT


@pytest.mark.parametrize("place", ["process", "other_process"])
def test_bytes_are_read_as_they_arrive(
    process: Downloads, source: FakeSource, place: str, request: pytest.FixtureRequest
) -> None:
    """Also from a byte that has not arrived, and by another process than the one that fetches them."""
    source.allow(400_000)
    with process.open(NAME, BLOB, source) as first, ThreadPoolExecutor() as pool:
        with request.getfixturevalue(place).open(NAME, BLOB, source) as reader:
            assert reader.read(300_000) == CONTENT[: reader.tell()]
            reader.seek(500_000)
            later = pool.submit(reader.read, 100)
            time.sleep(MOMENT)
            assert not later.done()
            source.allow(700_000)
            assert later.result(10) == CONTENT[500_000:500_100]
        source.allow()
        assert io.BufferedReader(first).read() == CONTENT
    assert source.opened == [0]


@NEAR
@pytest.mark.parametrize("size", [0, 1, HELD_BACK, HELD_BACK + 1, 3 * HELD_BACK])
def test_the_end_is_held_back_until_the_digest_is_known(
    site: Registry, process: Downloads, size: int
) -> None:
    """Of a damaged blob, readers get no more than what comes before; the next request tries again."""
    content, sent = CONTENT[:size], [0]
    blob, damaged = BlobRow(Digest.of(content), size), content[:-1] + b"?" if size else b""

    def read() -> bytes:
        with process.open(NAME, blob, fake) as reader:
            pieces = iter(lambda: reader.read(1000), b"")
            return b"".join(sent.append(sent[-1] + len(piece)) or piece for piece in pieces)  # type: ignore[func-returns-value]

    fake = FakeSource(damaged)
    if size:
        with pytest.raises(RegistryError):
            read()
        assert sent[-1] <= max(size - HELD_BACK, 0)
        assert site.blobs.find(NAME, blob.digest) is None
        assert until(lambda: [*site.state.store.staged()] == [])
    fake.content = content
    assert read() == content
    assert site.blobs.find(NAME, blob.digest) == blob


@NEAR
def test_a_download_goes_on_without_clients(site: Registry, process: Downloads, source: FakeSource) -> None:
    """The one that asked first leaves, and the blob comes all the same."""
    source.allow(200_000)
    process.open(NAME, BLOB, source).close()
    source.allow()
    assert until(lambda: is_stored(site))
    assert stored(site) == CONTENT
    assert source.opened == [0]


@NEAR
def test_a_broken_download_is_resumed(site: Registry, process: Downloads, source: FakeSource) -> None:
    """Its readers are cut short; the next request asks upstream for the rest only."""
    source.fails_at = [300_000]
    with pytest.raises(DownloadFailed):
        process.fetch(NAME, BLOB, source)
    process.fetch(NAME, BLOB, source)
    assert source.opened == [0, 300_000]
    assert stored(site) == CONTENT


def test_those_who_watch_go_on_when_a_download_fails(
    site: Registry, process: Downloads, other_process: Downloads, source: FakeSource
) -> None:
    """Readers in another process do not notice; the rest is requested there."""
    source.allow(200_000)
    source.fails_at = [300_000]
    with process.open(NAME, BLOB, source), other_process.open(NAME, BLOB, source) as reader:
        beginning = reader.read(1000)
        source.allow()
        assert beginning + io.BufferedReader(reader).read() == CONTENT
    assert source.opened == [0, 300_000]
    assert stored(site) == CONTENT


@NEAR
def test_a_blob_of_another_repository_is_not_transferred(
    site: Registry, process: Downloads, source: FakeSource
) -> None:
    """It is linked."""
    site.uploads.ingest(OTHER, [CONTENT])
    process.fetch(NAME, BLOB, source)
    assert source.opened == []
    assert stored(site, NAME) == CONTENT


@ONE
def test_a_silent_upstream_holds_no_reader(
    site: Registry, process: Downloads, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader waits as long as bytes may arrive, and no longer; what has arrived stays."""
    monkeypatch.setattr(flights, "STALLED", 2 * MOMENT)
    source.allow(200_000)
    began = time.monotonic()
    with process.open(NAME, BLOB, source) as reader, pytest.raises(DownloadFailed, match="stalled"):
        io.BufferedReader(reader).read()
    assert time.monotonic() - began < 10 * MOMENT
    with process.open(NAME, BLOB, source) as reader:
        reader.seek(300_000)
        with pytest.raises(DownloadFailed, match="stalled"):
            reader.read()
    source.allow()
    assert until(lambda: is_stored(site))


@ONE
def test_connections_are_limited(site: Registry, source: FakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob for which none becomes free is refused for now."""
    monkeypatch.setattr(flights, "STALLED", MOMENT)
    process = Downloads(site.incoming, "upstream", Limits(1))
    source.allow(100_000)
    process.open(NAME, BLOB, source).close()
    content = b"another one"
    blob = BlobRow(Digest.of(content), len(content))
    with pytest.raises((ServerBusy, DownloadFailed)):
        process.open(NAME, blob, FakeSource(content))
    monkeypatch.undo()  # a busy machine takes longer than that
    source.allow()
    assert until(lambda: is_stored(site))
    process.fetch(NAME, blob, FakeSource(content))


@ONE
def test_a_rate_is_kept(site: Registry) -> None:
    """Bytes come in small pieces, as fast as they may."""
    process, source = Downloads(site.incoming, "upstream", Limits(1, rate=2 << 20)), FakeSource(CONTENT)
    began = time.monotonic()
    with closing(process.open(NAME, BLOB, source)) as reader:
        reader.read(1)
        first = time.monotonic() - began
    process.fetch(NAME, BLOB, source)
    whole = time.monotonic() - began
    assert whole > 0.4
    assert first < whole / 2


@ONE
def test_what_cannot_be_kept_is_not_requested(site: Registry, source: FakeSource) -> None:
    """A full disk, or a registry that is read-only, is found out before."""

    def refuse() -> None:
        raise OSError("full")

    process = Downloads(site.incoming, "upstream", Limits(1), require=refuse)
    with pytest.raises(DownloadFailed, match="full"):
        process.open(NAME, BLOB, source)
    assert source.opened == []
    with pytest.raises(BlobUnknown):
        site.blobs.stat(NAME, BLOB.digest)
