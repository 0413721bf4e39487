"""Short uploads: all bytes at once, without a lease, unless another request was first."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog, Transaction, Undo
from dualreg.catalog.rows import BlobRow
from dualreg.errors import (
    BodyTruncated,
    DigestMismatch,
    RangeInvalid,
    RegistryError,
    TooManyStagedBytes,
    UploadBusy,
    UploadUnknown,
)
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, UploadId
from dualreg.registry import Registry, at_once
from dualreg.registry.leases import LEASE
from dualreg.registry.upload_limits import UploadLimits
from dualreg.registry.uploads import Uploads
from dualreg.storage.filesystem import FilesystemStore
from tests.conftest import Clock, GuardedStore

NAME = RepositoryName("team/app")
BODY, MORE = b"all of it", b" and more"


@pytest.fixture
def upload(registry: Registry) -> UploadId:
    """An empty upload."""
    return registry.uploads.start(NAME).id


def _append(registry: Registry, upload: UploadId, *chunks: bytes) -> int:
    return registry.uploads.append(NAME, upload, chunks, known=0).offset


def _cut_short(chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield from chunks
    raise BodyTruncated(received=len(BODY))


def _begins(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that grows with each transaction: whether it waits for the disk."""
    found, begin = list[bool](), registry.state.catalog.begin

    def record(*, durable: bool = True, undo: Undo | None = None) -> AbstractContextManager[Transaction]:
        found.append(durable)
        return begin(durable=durable, undo=undo)

    monkeypatch.setattr(registry.state.catalog, "begin", record)
    return found


def test_a_push_of_a_short_blob_waits_for_three_commits(
    registry: Registry, store: GuardedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each request; none of them takes a lease, and the process looks for nothing that it knows."""
    begins = _begins(registry, monkeypatch)
    with monkeypatch.context() as patch:
        patch.delattr(Catalog, "read")
        upload = registry.uploads.start(NAME).id
        assert _append(registry, upload, BODY[:4], BODY[4:]) == len(BODY)
        registry.uploads.finish(NAME, upload, Digest.of(BODY))
    assert begins == [True, True, True]
    assert [*store.staged()] == []
    with registry.blobs.open(Digest.of(BODY)) as reader:
        assert reader.read() == BODY


def test_a_request_that_is_refused_leaves_the_bytes(
    registry: Registry, store: GuardedStore, upload: UploadId
) -> None:
    """Also if it came with more; without, they keep their name."""
    _append(registry, upload, BODY)
    (held,) = store.staged()
    for more in ((), iter(())):
        with pytest.raises(DigestMismatch):
            registry.uploads.finish(NAME, upload, Digest.of(MORE), more)
        with pytest.raises(RangeInvalid):
            registry.uploads.append(NAME, upload, [MORE], offset=1)
        assert [each.upload for each in store.staged()] == [held.upload]
    with pytest.raises(DigestMismatch):
        registry.uploads.finish(NAME, upload, Digest.of(MORE), [MORE])
    (left,) = store.staged()
    with store.reopen(left.upload) as reader:
        assert reader.read() == BODY
    assert registry.uploads.finish(NAME, upload, Digest.of(BODY)).size == len(BODY)


class Preparing(FilesystemStore):
    """A store on disk in which others do something right before, or right after, bytes get a second name."""

    def __init__(self, root: Path, moment: str) -> None:
        """Let them come at that *moment*."""
        super().__init__(root)
        self.moment, self.meanwhile = moment, list[Callable[[], object]]()

    def prepare(self, upload: UploadId, digest: Digest) -> Callable[[], None]:
        """Prepare, and let others come once."""
        self._come("before")
        waits = super().prepare(upload, digest)
        self._come("after")
        return waits

    def _come(self, moment: str) -> None:
        if self.meanwhile and moment == self.moment:
            self.meanwhile.pop()()


@pytest.mark.parametrize(
    ("process", "moment"),
    [("same", "before"), ("same", "after"), ("other", "before"), ("other", "after")],
)
@pytest.mark.parametrize(
    ("meanwhile", "error"),
    [
        ("append", DigestMismatch),
        ("go on writing", UploadBusy),
        ("cancel", UploadUnknown),
        ("expire", UploadUnknown),
        ("finish", None),
    ],
)
def test_what_comes_while_it_becomes_a_blob(
    catalog: Catalog,
    tmp_path: Path,
    *,
    process: str,
    moment: str,
    meanwhile: str,
    error: type[RegistryError] | None,
) -> None:
    """It is as if that had come before, and no byte of the blob, which others have, changes."""
    store = Preparing(tmp_path / "store", moment)
    registry = build_registry(catalog, store)
    finishing = (registry if process == "same" else build_registry(catalog, store)).uploads
    uploads, upload, digest = registry.uploads, registry.uploads.start(NAME).id, Digest.of(BODY)
    uploads.ingest(RepositoryName("team/other"), [BODY])
    _append(registry, upload, BODY)
    with ExitStack() as stack:

        def go_on_writing() -> None:
            began, goes_on = Event(), Event()

            def pieces() -> Iterator[bytes]:
                yield MORE
                began.set()
                assert goes_on.wait(60)
                yield MORE

            append = partial(uploads.append, NAME, upload, pieces(), offset=len(BODY))
            stack.enter_context(ThreadPoolExecutor(1)).submit(append)
            stack.callback(goes_on.set)
            assert began.wait(60)

        acts: dict[str, Callable[[], object]] = {
            "append": lambda: uploads.append(NAME, upload, [MORE]),
            "go on writing": go_on_writing,
            "cancel": lambda: uploads.cancel(NAME, upload),
            "expire": lambda: uploads.expire(upload, catalog.now() + timedelta(seconds=1)),
            "finish": lambda: uploads.finish(NAME, upload, digest),
        }
        store.meanwhile.append(acts[meanwhile])
        with pytest.raises(error) if error else nullcontext():
            assert finishing.finish(NAME, upload, digest) == BlobRow(digest, len(BODY))
    with registry.blobs.open(digest) as reader:
        assert reader.read() == BODY
    assert (registry.blobs.find(NAME, digest) is None) is (error is not None)
    if meanwhile == "append":
        assert uploads.finish(NAME, upload, Digest.of(BODY + MORE)).size == len(BODY + MORE)
    if meanwhile == "go on writing":
        assert uploads.finish(NAME, upload, Digest.of(BODY + MORE * 2)).size == len(BODY + MORE * 2)
    assert [*store.staged()] == []


@pytest.mark.parametrize("elsewhere", ["append", "cancel", "finish", "expire"])
def test_what_another_process_did_since_then(
    catalog: Catalog, tmp_path: Path, clock: Clock, elsewhere: str
) -> None:
    """What a process remembers of an upload does not count any more."""
    store = FilesystemStore(tmp_path / "store")
    here, other = (build_registry(catalog, store).uploads for _ in range(2))
    upload, digest = here.start(NAME).id, Digest.of(BODY)
    here.append(NAME, upload, [BODY], known=0)
    acts: dict[str, Callable[[], object]] = {
        "append": lambda: other.append(NAME, upload, [MORE]),
        "cancel": lambda: other.cancel(NAME, upload),
        "finish": lambda: other.finish(NAME, upload, digest),
        "expire": lambda: clock.advance(here.ttl + timedelta(seconds=1)),
    }
    acts[elsewhere]()
    errors = {"append": DigestMismatch, "cancel": UploadUnknown, "expire": UploadUnknown}
    with pytest.raises(errors[elsewhere]) if elsewhere in errors else nullcontext():
        assert here.finish(NAME, upload, digest).size == len(BODY)
    if elsewhere == "append":
        assert here.finish(NAME, upload, Digest.of(BODY + MORE)).size == len(BODY + MORE)


def test_uploads_go_on_after_it(registry: Registry, upload: UploadId) -> None:
    """More bytes are appended under a lease; a repeated request counts once."""
    _append(registry, upload, BODY)
    assert _append(registry, upload, BODY) == len(BODY)
    assert registry.uploads.append(NAME, upload, [b" and more"], offset=len(BODY)).offset == len(BODY) + 9
    assert registry.uploads.finish(NAME, upload, Digest.of(BODY + b" and more")).size == len(BODY) + 9


def test_bytes_that_are_not_the_uploads_any_more_go(
    registry: Registry, store: GuardedStore, upload: UploadId
) -> None:
    """An earlier request had staged some that did not count; they would take space until a collection."""
    assert _append(registry, upload) == 0
    assert [each.upload for each in store.staged()] == [upload]
    assert _append(registry, upload, BODY) == len(BODY)
    (left,) = store.staged()
    assert left.upload != upload
    with store.reopen(left.upload) as reader:
        assert reader.read() == BODY


def test_a_long_body_is_written_under_a_lease(
    registry: Registry, upload: UploadId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is lost on the way."""
    monkeypatch.setattr(at_once, "SHORT", len(BODY))
    begins = _begins(registry, monkeypatch)
    assert _append(registry, upload, BODY, b"!", b"?") == len(BODY) + 2
    assert begins == [False, True]
    assert registry.uploads.finish(NAME, upload, Digest.of(BODY + b"!?")).size == len(BODY) + 2


def test_another_writer_comes_first(
    registry: Registry, upload: UploadId, store: GuardedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds the lease is not disturbed, and no bytes of the other one stay."""

    def slow() -> Iterator[bytes]:
        yield b"first"
        with pytest.raises(UploadBusy):
            _append(registry, upload, BODY)
        yield b" and last"

    with monkeypatch.context() as patch:
        patch.setattr(at_once, "SHORT", -1)
        leased = registry.uploads.append(NAME, upload, slow())
    assert leased.offset == 14
    assert len([*store.staged()]) == 1


def test_a_writer_that_wakes_up_late_is_refused(registry: Registry, upload: UploadId, clock: Clock) -> None:
    """Its lease has run out, and another request has taken it over: with a copy, not at once."""

    def stalled() -> Iterator[bytes]:
        yield bytes(at_once.SHORT + 1)
        clock.advance(LEASE + timedelta(seconds=1))
        assert _append(registry, upload, BODY) == len(BODY)
        yield b"late"

    with pytest.raises(UploadBusy):
        registry.uploads.append(NAME, upload, stalled())
    assert registry.uploads.finish(NAME, upload, Digest.of(BODY)).size == len(BODY)


def test_a_body_cut_short_counts(registry: Registry, upload: UploadId) -> None:
    """What arrived is durable, and the error is that of the body."""
    with pytest.raises(BodyTruncated):
        registry.uploads.append(NAME, upload, _cut_short([BODY]), known=0)
    assert registry.uploads.status(NAME, upload).offset == len(BODY)


def test_limits_hold(registry: Registry, upload: UploadId, store: GuardedStore) -> None:
    """A body that is too large ends at the limit."""
    state, integrity = registry.state, registry.uploads.integrity
    limited = Uploads(state, integrity, limits=UploadLimits(total=len(BODY)))
    with pytest.raises(TooManyStagedBytes):
        limited.append(NAME, upload, [BODY, b"!"], known=0)
    assert limited.status(NAME, upload).offset == len(BODY)
    assert [each.upload for each in store.staged()] == [upload]


@pytest.mark.parametrize("gone", ["unknown", "expired", "elsewhere"])
def test_no_bytes_stay_without_an_upload(
    registry: Registry, upload: UploadId, store: GuardedStore, clock: Clock, gone: str
) -> None:
    """It is as unknown as to any other request."""
    if gone == "expired":
        clock.advance(registry.uploads.ttl + timedelta(seconds=1))
    named = UploadId.new() if gone == "unknown" else upload
    name = RepositoryName("team/other") if gone == "elsewhere" else NAME
    with pytest.raises(UploadUnknown):
        registry.uploads.append(name, named, [BODY], known=0)
    assert [*store.staged()] == []


def test_a_failing_catalog_leaves_no_bytes(
    registry: Registry, upload: UploadId, store: GuardedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload is as it was."""

    def fail() -> None:
        raise OSError("the disk fails")

    with monkeypatch.context() as patch:
        patch.setattr(registry.state.catalog._writer, "begin", fail)
        with pytest.raises(OSError, match="the disk fails"):
            _append(registry, upload, BODY)
    assert [*store.staged()] == []
    assert _append(registry, upload, BODY) == len(BODY)


def test_an_interrupt_after_the_commit_leaves_the_bytes(
    registry: Registry, upload: UploadId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the upload's, although nobody waited until the disk had the commit."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry.state.catalog, "settle", interrupt)
        with pytest.raises(KeyboardInterrupt):
            _append(registry, upload, BODY)
    registry.uploads.finish(NAME, upload, Digest.of(BODY))
    with registry.blobs.open(Digest.of(BODY)) as reader:
        assert reader.read() == BODY


def test_what_was_only_read_is_made_durable_before_it_is_reported(
    registry: Registry, upload: UploadId, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another request may have committed it a moment ago, and still be waiting for the disk."""
    settled = list[str]()
    settle = registry.state.catalog.settle
    monkeypatch.setattr(
        type(registry.state.catalog), "settle", lambda _: (settled.append("settled"), settle())[1]
    )

    def waits(ask: Callable[[], object], error: type[Exception] | None = None) -> bool:
        settled.clear()
        with pytest.raises(error) if error else nullcontext():
            ask()
        return bool(settled)

    uploads, digest = registry.uploads, Digest.of(BODY)
    _append(registry, upload, BODY)
    assert waits(lambda: uploads.status(NAME, upload))
    assert waits(lambda: uploads.append(NAME, upload, [b"?"], offset=3), RangeInvalid)
    uploads.finish(NAME, upload, digest)
    assert waits(lambda: uploads.finish(NAME, upload, digest))
    assert waits(lambda: registry.blobs.stat(NAME, digest))
    clock.advance(timedelta(minutes=2))
    assert not waits(lambda: registry.blobs.stat(NAME, digest))
