"""Uploads, as HTTP does not show them: leases, takeovers, and which hash is believed."""

import errno
import gzip
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Never

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.commits import CommitUncertain
from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.rows import BlobRow, Lease
from dualreg.catalog.uploads import UploadQueries
from dualreg.errors import (
    BodyTruncated,
    DigestMismatch,
    RangeInvalid,
    ServerBusy,
    TagUnknown,
    UploadBusy,
    UploadUnknown,
)
from dualreg.image.convert import CONFIG_LIMIT
from dualreg.image.digest import Digest
from dualreg.image.documents import dump
from dualreg.image.names import ImageId, RepositoryName, Tag, UploadId
from dualreg.registry import Registry, at_once
from dualreg.registry.inflating import InflatingSlots
from dualreg.registry.leases import LEASE
from dualreg.registry.processes import own_name
from dualreg.registry.uploads import Uploads
from dualreg.registry.v1_holds import HOLD
from dualreg.storage.base import StagedUpload
from dualreg.storage.filesystem import FilesystemStore
from tests import builders
from tests.conftest import Clock, GuardedStore
from tests.properties.registries import push_v2
from tests.state import snapshot

NAME = RepositoryName("team/app")


@pytest.fixture(autouse=True)
def leased(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have even the shortest body written under a lease."""
    monkeypatch.setattr(at_once, "SHORT", -1)


@pytest.fixture
def upload(registry: Registry) -> UploadId:
    """An empty upload."""
    return registry.uploads.start(NAME).id


def read(registry: Registry, digest: Digest) -> bytes:
    """Return a blob's bytes."""
    registry.blobs.stat(NAME, digest)
    with registry.blobs.open(digest) as reader:
        return reader.read()


def test_an_offset_is_that_of_bytes(registry: Registry, upload: UploadId, store: GuardedStore) -> None:
    """A crash between publishing and the commit leaves a row without bytes: no offset to go on from."""
    assert registry.uploads.status(NAME, upload).offset == 0
    registry.uploads.append(NAME, upload, [b"bytes"])
    assert registry.uploads.status(NAME, upload).offset == 5
    store.publish(upload, Digest.of(b"bytes"))
    with pytest.raises(UploadUnknown):
        registry.uploads.status(NAME, upload)


def test_uploads_that_are_read_again_take_a_slot(
    registry: Registry, upload: UploadId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one the client is asked to come back, and what arrived counts; others need none."""

    def all_taken(*_: object, **__: object) -> Never:
        raise ServerBusy(retry_after=5)

    digest, other = Digest.of(b"in chunks"), registry.uploads.start(NAME).id
    registry.uploads.append(NAME, upload, [b"in "])
    registry.uploads.append(NAME, other, [b"at once"])
    with monkeypatch.context() as patched:
        patched.setattr(InflatingSlots, "slot", all_taken)
        with pytest.raises(ServerBusy):
            registry.uploads.finish(NAME, upload, digest, [b"chunks"])
        assert registry.uploads.finish(NAME, other, Digest.of(b"at once")).size == 7
    assert registry.uploads.status(NAME, upload).offset == 9
    assert registry.uploads.finish(NAME, upload, digest, [b"chunks"], known=3).digest == digest


def test_one_writer_at_a_time(registry: Registry, upload: UploadId) -> None:
    """While a request writes, every other one is refused, and takes nothing from its body."""

    def body() -> Iterator[bytes]:
        yield b"one"
        for refused in (
            lambda: registry.uploads.append(NAME, upload, untouched()),
            lambda: registry.uploads.finish(NAME, upload, Digest.of(b"one"), untouched()),
            lambda: registry.uploads.cancel(NAME, upload),
        ):
            with pytest.raises(UploadBusy):
                refused()
        yield b"two"

    def untouched() -> Iterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    assert registry.uploads.append(NAME, upload, body()).offset == 6
    assert registry.uploads.finish(NAME, upload, Digest.of(b"onetwo")).size == 6


def test_a_lease_is_renewed_while_bytes_come(registry: Registry, upload: UploadId, clock: Clock) -> None:
    """A slow but living writer keeps its upload, however long it takes."""

    def slow() -> Iterator[bytes]:
        for _ in range(10):
            clock.advance(LEASE - timedelta(seconds=1))
            with pytest.raises(UploadBusy):
                registry.uploads.append(NAME, upload, [b"thief"])
            yield b"x"

    # Each piece comes in time; together they take far longer than a lease.
    assert registry.uploads.append(NAME, upload, slow()).offset == 10
    assert registry.uploads.finish(NAME, upload, Digest.of(b"x" * 10)).size == 10


def test_a_silent_writer_is_succeeded(registry: Registry, upload: UploadId, clock: Clock) -> None:
    """After its lease another goes on from the last durable byte; when the first wakes up it is refused."""
    registry.uploads.append(NAME, upload, [b"held"])

    def stalled() -> Iterator[bytes]:
        yield b" lost"
        clock.advance(LEASE + timedelta(seconds=1))
        assert registry.uploads.append(NAME, upload, [b" kept"], offset=4).offset == 9
        yield b" late"

    with pytest.raises(UploadBusy):
        registry.uploads.append(NAME, upload, stalled())
    assert registry.uploads.status(NAME, upload).offset == 9


@pytest.mark.parametrize("how", ["finished", "cut short", "refused", "shorter"])
def test_a_writer_that_wakes_up_writes_nothing_more(
    registry: Registry, upload: UploadId, clock: Clock, how: str
) -> None:
    """Whether its successor is done, gave up or wrote less: the lease is lost, though nobody holds it now."""

    def successor() -> Iterator[bytes]:
        yield b"AB" if how == "shorter" else b"ABCDEFGH"
        if how == "cut short":
            raise BodyTruncated(received=3)
        if how == "refused":
            raise OSError

    def stalled() -> Iterator[bytes]:
        yield b"abcd"
        clock.advance(LEASE + timedelta(seconds=1))
        try:
            registry.uploads.append(NAME, upload, successor())
        except (BodyTruncated, OSError):
            assert how in ("cut short", "refused")
        yield b"efgh"

    with pytest.raises(UploadBusy):
        registry.uploads.append(NAME, upload, stalled())
    truth = {"shorter": b"AB", "refused": b""}.get(how, b"ABCDEFGH")
    assert registry.uploads.status(NAME, upload).offset == len(truth)
    with pytest.raises(DigestMismatch):
        registry.uploads.finish(NAME, upload, Digest.of(b"abcdefgh"))
    registry.uploads.finish(NAME, upload, Digest.of(truth))
    assert read(registry, Digest.of(truth)) == truth


def test_a_writer_whose_upload_was_finished_by_another(
    registry: Registry, upload: UploadId, clock: Clock
) -> None:
    """The late one learns that it lost; the blob is the winner's."""

    def stalled() -> Iterator[bytes]:
        yield b"lost"
        clock.advance(LEASE + timedelta(seconds=1))
        registry.uploads.finish(NAME, upload, Digest.of(b"won"), [b"won"])
        yield b" late"

    with pytest.raises((UploadBusy, UploadUnknown)):
        registry.uploads.append(NAME, upload, stalled())
    assert read(registry, Digest.of(b"won")) == b"won"


#: Where a writer is stalled: before it opens the staged file, in its body, or before it records the result.
POINTS = ["opening", "body", "recording"]


class Stalling(FilesystemStore):
    """A store on disk in which the first append of a writer is stalled while others do something."""

    def __init__(self, root: Path, point: str) -> None:
        """Stall at *point*."""
        super().__init__(root)
        self.point, self.meanwhile = point, list[Callable[[], object]]()

    def append(self, upload: UploadId, chunks: Iterable[bytes], *, offset: int) -> int:
        """Append, stalled once."""
        self._stall("opening")

        def stalled() -> Iterator[bytes]:
            for number, chunk in enumerate(chunks):
                if number == 1:
                    self._stall("body")
                yield chunk

        length = super().append(upload, stalled(), offset=offset)
        self._stall("recording")
        return length

    def _stall(self, point: str) -> None:
        if self.meanwhile and point == self.point:
            self.meanwhile.pop()()


@pytest.fixture
def stalling(request: pytest.FixtureRequest, tmp_path: Path) -> Stalling:
    """A store on disk whose next append is stalled at the point that the test is parametrised with."""
    return Stalling(tmp_path / "store", request.param)


@pytest.mark.parametrize("stalling", POINTS, indirect=True)
@pytest.mark.parametrize("held", [b"", b"held "], ids=["from the start", "resumed"])
@pytest.mark.parametrize("late", ["append", "finish", "finish wrongly"])
@pytest.mark.parametrize("follower", ["finishes", "appends"])
def test_a_late_writer_changes_no_bytes_of_its_follower(
    catalog: Catalog, clock: Clock, stalling: Stalling, *, held: bytes, late: str, follower: str
) -> None:
    """Another request takes over and publishes; then the first one goes on with its body, and fails."""
    registry = build_registry(catalog, stalling)
    uploads, upload = registry.uploads, registry.uploads.start(NAME).id
    uploads.append(NAME, upload, [held])
    whole, pieces = held + b"right bytes", [b"wrong", b" BYTES"]

    def take_over() -> None:
        clock.advance(LEASE + timedelta(seconds=1))
        if follower == "finishes":
            uploads.finish(NAME, upload, Digest.of(whole), [b"right bytes"])
        else:
            assert uploads.append(NAME, upload, [b"right"]).offset == len(held) + 5

    stalling.meanwhile.append(take_over)
    digest = Digest.of(b"none" if late == "finish wrongly" else held + b"".join(pieces))
    writing = partial(uploads.append, NAME, upload)
    if late != "append":
        writing = partial(uploads.finish, NAME, upload, digest)
    with pytest.raises((UploadBusy, UploadUnknown, DigestMismatch)):
        writing(pieces)
    if follower == "appends":
        uploads.finish(NAME, upload, Digest.of(whole), [b" bytes"])
    assert read(registry, Digest.of(whole)) == whole
    assert [*stalling.staged()] == []


@pytest.mark.parametrize("stalling", POINTS, indirect=True)
@pytest.mark.parametrize("end", ["cancel", "expire", "delete the repository"])
def test_a_late_writer_of_an_upload_that_is_gone_leaves_nothing(
    catalog: Catalog, clock: Clock, stalling: Stalling, end: str
) -> None:
    """Whatever ended the upload, the writer is refused, and no staged file stays."""
    registry = build_registry(catalog, stalling)
    upload = registry.uploads.start(NAME).id

    def end_it() -> None:
        clock.advance(timedelta(hours=25))
        if end == "cancel":
            replace(registry.uploads, ttl=timedelta(hours=48)).cancel(NAME, upload)
        elif end == "expire":
            assert registry.uploads.expire(upload, clock.instant - timedelta(hours=24))
        else:
            registry.repositories.delete(NAME)

    stalling.meanwhile.append(end_it)
    with pytest.raises((UploadBusy, UploadUnknown)):
        registry.uploads.finish(NAME, upload, Digest.of(b"wrong bytes"), [b"wrong", b" bytes"])
    assert [*stalling.staged()] == []


def test_a_late_cancel_is_refused(
    registry: Registry, upload: UploadId, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It deletes nothing of an upload that another request has taken over since."""
    registry.uploads.append(NAME, upload, [b"held"])
    begin = registry.state.catalog.begin

    def take_over() -> None:
        clock.advance(LEASE * 2)
        registry.uploads.append(NAME, upload, [b" more"])

    before = [lambda: None, take_over]  # the lease of the cancel, and its second transaction

    @contextmanager
    def stalled(**options: Any) -> Iterator[Transaction]:
        if before:
            before.pop(0)()
        with begin(**options) as tx:
            yield tx

    monkeypatch.setattr(registry.state.catalog, "begin", stalled)
    with pytest.raises(UploadBusy):
        registry.uploads.cancel(NAME, upload)
    registry.uploads.finish(NAME, upload, Digest.of(b"held more"))
    assert read(registry, Digest.of(b"held more")) == b"held more"


@pytest.mark.parametrize("stalling", ["body"], indirect=True)
def test_a_failed_takeover_is_repeated(
    catalog: Catalog, clock: Clock, stalling: Stalling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the copy fails, the next writer makes one too, however the lease was released."""
    registry = build_registry(catalog, stalling)
    upload = registry.uploads.start(NAME).id
    registry.uploads.append(NAME, upload, [b"held "])

    def fail(*_: object) -> BinaryIO:
        raise OSError(errno.ENOSPC, "no space left on device")

    def take_over() -> None:
        clock.advance(LEASE * 2)
        with monkeypatch.context() as patch:
            patch.setattr(stalling, "reopen", fail)
            with pytest.raises(OSError, match="no space"):
                registry.uploads.append(NAME, upload, [b"right"])
        registry.uploads.append(NAME, upload, [b"right"])

    stalling.meanwhile.append(take_over)
    with pytest.raises(UploadBusy):
        registry.uploads.append(NAME, upload, [b"wrong", b"wrong"])
    registry.uploads.finish(NAME, upload, Digest.of(b"held right"))
    assert read(registry, Digest.of(b"held right")) == b"held right"


def test_the_lease_of_an_ended_process_ends(registry: Registry, upload: UploadId, clock: Clock) -> None:
    """The next writer need not wait, and continues on the same bytes; that of a living one is respected."""
    registry.uploads.append(NAME, upload, [b"held "])
    with subprocess.Popen(["sleep", "60"]) as other:
        name = f"{own_name().rsplit(' ', 2)[0]} {other.pid} {_started(other.pid)}"
        with registry.state.catalog.begin() as tx:
            assert tx.uploads.lease(NAME, upload, Lease("dead", name), duration=LEASE)
        with pytest.raises(UploadBusy):
            registry.uploads.append(NAME, upload, [b"x"])
        other.kill()
        other.wait()
    assert registry.uploads.append(NAME, upload, [b"on"]).offset == 7
    assert [staged.upload for staged in registry.state.store.staged()] == [upload]
    registry.uploads.finish(NAME, upload, Digest.of(b"held on"))
    assert clock.instant == Clock().instant


def _started(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]


def test_a_body_cut_short_counts(registry: Registry, upload: UploadId) -> None:
    """What arrived is held, the lease is free, and the hash goes on being known."""

    def cut() -> Iterator[bytes]:
        yield b"abc"
        raise BodyTruncated(received=3)

    for length in (3, 6):
        with pytest.raises(BodyTruncated):
            registry.uploads.append(NAME, upload, cut())
        assert registry.uploads.status(NAME, upload).offset == length
    with pytest.raises(BodyTruncated):
        registry.uploads.finish(NAME, upload, Digest.of(b"abcabc"), cut())
    assert registry.uploads.status(NAME, upload).offset == 9
    assert registry.uploads.finish(NAME, upload, Digest.of(b"abcabcabc")).size == 9


def test_a_body_that_fails_counts_for_nothing(registry: Registry, upload: UploadId) -> None:
    """Any other failure leaves the upload, lease included, as if the request had not been."""
    registry.uploads.append(NAME, upload, [b"abc"])
    before = snapshot(registry)

    def failing() -> Iterator[bytes]:
        yield b"xyz"
        raise OSError(errno.ENOSPC, "No space left on device")

    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            registry.uploads.append(NAME, upload, failing())
        assert snapshot(registry)["rows"] == before["rows"]
    registry.uploads.finish(NAME, upload, Digest.of(b"abcd"), [b"d"])
    assert read(registry, Digest.of(b"abcd")) == b"abcd"


def test_the_wrong_place_costs_nothing(registry: Registry, upload: UploadId) -> None:
    """The error knows where to go on."""
    registry.uploads.append(NAME, upload, [b"abc"])
    before = snapshot(registry)
    for offset in (0, 2, 4, 2**62):
        with pytest.raises(RangeInvalid) as raised:
            registry.uploads.append(NAME, upload, [b"x"], offset=offset)
        assert raised.value.facts() == {"repository": NAME, "upload": upload, "offset": 3}
    assert snapshot(registry) == before
    assert registry.uploads.append(NAME, upload, [b"d"], offset=3).offset == 4


class CountingStore(GuardedStore):
    """A store that counts how often uploads are read again."""

    rereads = 0

    def reopen(self, upload: UploadId) -> object:  # type: ignore[override]
        """Count."""
        self.rereads += 1
        return super().reopen(upload)


@pytest.fixture
def store() -> CountingStore:
    """A store that counts."""
    return CountingStore()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize(
    ("pieces", "last", "rereads"),
    [
        ([], b"abc", (0, 0)),
        ([b"abc"], b"", (0, 1)),
        ([b"abc", b""], b"", (0, 1)),
        ([b"", b"abc"], b"", (0, 1)),
        ([b"ab", b"c"], b"", (1, 1)),
        ([b"ab"], b"c", (1, 1)),
        ([], b"", (0, 0)),
    ],
)
def test_what_was_hashed_on_the_way_is_not_read_again(
    registry: Registry,
    store: CountingStore,
    upload: UploadId,
    *,
    pieces: list[bytes],
    last: bytes,
    rereads: tuple[int, int],
    algorithm: str,
) -> None:
    """One request that saw every byte knows the digest; several, or sha512 after all, read once more."""
    for piece in pieces:
        registry.uploads.append(NAME, upload, [piece])
    whole = b"".join(pieces) + last
    digest = Digest.of(whole, algorithm)
    registry.uploads.finish(NAME, upload, digest, [last])
    assert store.rereads == rereads[algorithm == "sha512"]
    assert read(registry, digest) == whole


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("pieces", [[b"abc"], [b"ab", b"c"], []])
def test_a_wrong_digest_keeps_the_upload(
    registry: Registry, upload: UploadId, pieces: list[bytes], algorithm: str
) -> None:
    """To the byte: also when the refused request brought some of its own."""
    for piece in pieces:
        registry.uploads.append(NAME, upload, [piece])
    before = snapshot(registry)
    for _ in range(2):
        with pytest.raises(DigestMismatch):
            registry.uploads.finish(NAME, upload, Digest.of(b"other", algorithm), [b"rest"])
        assert snapshot(registry)["rows"] == before["rows"]
        held = {staged: data for staged, data in snapshot(registry)["staged"].items() if data}
        assert held == {staged: data for staged, data in before["staged"].items() if data}
    whole = b"".join(pieces) + b"rest"
    registry.uploads.finish(NAME, upload, Digest.of(whole, algorithm), [b"rest"])
    assert read(registry, Digest.of(whole, algorithm)) == whole


def test_bytes_past_the_offset_never_count(
    registry: Registry, store: CountingStore, upload: UploadId
) -> None:
    """What a crashed request had written but not recorded is cut by the next one."""
    registry.uploads.append(NAME, upload, [b"abc"])
    store.append(upload, [b"garbage of a dead worker"], offset=3)
    registry.uploads.append(NAME, upload, [b"d"])
    registry.uploads.finish(NAME, upload, Digest.of(b"abcd"))
    assert read(registry, Digest.of(b"abcd")) == b"abcd"


def test_bytes_past_the_offset_never_count_at_the_end(
    registry: Registry, store: CountingStore, upload: UploadId
) -> None:
    """Nor if the next request is the last and brings nothing."""
    registry.uploads.append(NAME, upload, [b"abc"])
    store.append(upload, [b"garbage"], offset=3)
    registry.uploads.finish(NAME, upload, Digest.of(b"abc"))
    assert read(registry, Digest.of(b"abc")) == b"abc"


def test_ingest_takes_all_or_nothing(registry: Registry, store: CountingStore) -> None:
    """Whatever goes wrong, there is no trace of it."""

    def failing() -> Iterator[bytes]:
        yield b"abc"
        raise BodyTruncated(received=3)

    before = snapshot(registry)
    with pytest.raises(BodyTruncated):
        registry.uploads.ingest(NAME, failing())
    with pytest.raises(DigestMismatch):
        registry.uploads.ingest(NAME, [b"abc"], expected=Digest.of(b"other"))
    assert snapshot(registry) == before
    for expected in (None, Digest.of(b"abc", "sha512")):
        blob = registry.uploads.ingest(NAME, [b"a", b"", b"bc"], expected=expected)
        assert blob.digest == (expected or Digest.of(b"abc"))
        assert read(registry, blob.digest) == b"abc"
    assert not [staged for staged in store.staged() if isinstance(staged, StagedUpload)]


def test_cancelling(registry: Registry, store: CountingStore, upload: UploadId) -> None:
    """Bytes and row go; another repository cannot."""
    registry.uploads.append(NAME, upload, [b"abc"])
    with pytest.raises(UploadUnknown):
        registry.uploads.cancel(RepositoryName("other"), upload)
    registry.uploads.cancel(NAME, upload)
    assert [*store.staged()] == []
    with pytest.raises(UploadUnknown):
        registry.uploads.status(NAME, upload)


def test_two_registries_share_leases(
    catalog: Catalog, store: CountingStore, registry: Registry, upload: UploadId
) -> None:
    """The lease is the catalog's, not a process's."""
    other = build_registry(catalog, store)

    def body() -> Iterator[bytes]:
        yield b"abc"
        with pytest.raises(UploadBusy):
            other.uploads.append(NAME, upload, [b"x"])

    assert registry.uploads.append(NAME, upload, body()).offset == 3
    assert other.uploads.append(NAME, upload, [b"d"]).offset == 4


def test_a_slow_mismatch_does_not_cut_its_successors_bytes(
    registry: Registry, store: GuardedStore, clock: Clock
) -> None:
    """Who lost the lease while hashing again must not cut what the next holder was told is durable."""
    upload = registry.uploads.start(NAME)
    registry.uploads.append(NAME, upload.id, [b"abc"])
    registry.uploads.append(NAME, upload.id, [b"def"])
    reopened = store.reopen

    def slow(staged: UploadId) -> BinaryIO:
        patch.undo()
        reader = reopened(staged)
        clock.advance(LEASE * 2)
        registry.uploads.append(NAME, upload.id, [b"ghi"])
        return reader

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "reopen", slow)
        with pytest.raises(UploadBusy):
            registry.uploads.finish(NAME, upload.id, Digest.of(b"something else"))
    assert registry.uploads.status(NAME, upload.id).offset == 9
    assert registry.uploads.finish(NAME, upload.id, Digest.of(b"abcdefghi")).size == 9


def test_a_clients_own_v1_image_outlives_a_derived_one(registry: Registry) -> None:
    """A V2 push of the same files leaves a V1 image as its client pushed it, JSON and layer."""
    files = builders.tar({"a": b"1"})
    diff_id = Digest.of(files)
    own, other = gzip.compress(files, 1, mtime=0), gzip.compress(files, 9, mtime=0)
    assert own != other
    json = dump({"id": diff_id.hex, "comment": "mine"})
    image = ImageId(diff_id.hex)
    registry.v1_images.begin(NAME, image, json)
    registry.v1_images.put_layer(NAME, image, [own])
    registry.v1_images.put_checksum(NAME, image, None)
    pushed = builders.image(other, builders.layer({"b": b"2"}))
    push_v2(registry, NAME, Tag("v2"), pushed)
    top = registry.bridge.resolve(NAME, Tag("v2"))
    row = registry.v1_images.ancestry(NAME, top)[-1]
    assert (row.id, registry.v1_images.json(row), row.layer) == (image, json, Digest.of(own))


def test_a_squatted_v1_id_gives_way(registry: Registry) -> None:
    """Under an id that is made of content, other content does not last."""
    base = builders.layer({"a": b"1"})
    image = ImageId(Digest.of(gzip.decompress(base)).hex)
    registry.v1_images.begin(NAME, image, dump({"id": image}))
    registry.v1_images.put_layer(NAME, image, [builders.layer({"evil": b"1"})])
    registry.v1_images.put_checksum(NAME, image, None)
    pushed = builders.image(base, builders.layer({"b": b"2"}))
    push_v2(registry, NAME, Tag("v2"), pushed)
    top = registry.bridge.resolve(NAME, Tag("v2"))
    assert registry.v1_images.ancestry(NAME, top)[-1].layer == Digest.of(base)


def test_a_huge_config_is_no_image_to_v1(registry: Registry) -> None:
    """A config that no daemon could have written is never read whole: V1 clients do not see its tag."""
    pushed = builders.image(builders.layer({"a": b"1"}), comment="x" * CONFIG_LIMIT)
    push_v2(registry, NAME, Tag("big"), pushed)
    with pytest.raises(TagUnknown):
        registry.bridge.resolve(NAME, Tag("big"))


def test_a_layer_deleted_before_it_is_attached(registry: Registry) -> None:
    """If the blob goes in between, the client is told to try again, and nothing dangles."""
    (image,) = builders.v1_chain(builders.layer({"a": b"1"}))
    registry.v1_images.begin(NAME, image.id, image.json)
    ingest = Uploads.ingest

    def deleted(self: Uploads, *args: Any, **kwargs: Any) -> BlobRow:
        blob = ingest(self, *args, **kwargs)
        registry.blobs.delete(NAME, blob.digest)
        return blob

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Uploads, "ingest", deleted)
        with pytest.raises(UploadBusy):
            registry.v1_images.put_layer(NAME, image.id, [image.layer])
    registry.v1_images.put_layer(NAME, image.id, [image.layer])
    registry.v1_images.put_checksum(NAME, image.id, None)


def test_a_slow_layer_holds_its_image(registry: Registry, clock: Clock) -> None:
    """While it arrives, nobody begins the image with another JSON; afterwards, its sender completes it."""
    (image,) = builders.v1_chain(builders.layer({"a": b"1"}))
    other = image.json.replace(b"{", b'{"x": 1, ', 1)
    registry.v1_images.begin(NAME, image.id, image.json)

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(image.layer), 20):
            yield image.layer[start : start + 20]
            clock.advance(HOLD - timedelta(seconds=1))
            with pytest.raises(UploadBusy):
                registry.v1_images.begin(NAME, image.id, other)

    registry.v1_images.put_layer(NAME, image.id, slowly())
    with pytest.raises(UploadBusy):
        registry.v1_images.begin(NAME, image.id, other)
    checksum = Digest.of(image.json + b"\n" + image.layer)
    registry.v1_images.put_checksum(NAME, image.id, checksum)
    assert registry.v1_images.json(registry.v1_images.get(NAME, image.id)) == image.json


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(OSError(errno.EIO, "the disk failed"), CommitUncertain), (KeyboardInterrupt(), KeyboardInterrupt)],
    ids=["fails", "interrupted"],
)
def test_the_wait_for_the_disk_fails_while_an_upload_is_taken_over(
    *,
    sqlite_catalog: Catalog,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    raised: type[BaseException],
) -> None:
    """Whether it is recorded is not known, so neither copy of the bytes goes whose offset was reported."""
    registry = build_registry(sqlite_catalog, FilesystemStore(tmp_path / "data"))
    upload = registry.uploads.start(NAME).id
    assert registry.uploads.append(NAME, upload, [b"reported"]).offset == 8
    sync = os.fdatasync

    def fail(_: int) -> Never:
        monkeypatch.setattr(os, "fdatasync", sync)
        raise failure

    def stalled() -> Iterator[bytes]:
        yield b"more"
        clock.advance(2 * LEASE)
        lease = UploadQueries.secure

        def secure(*given: Any) -> bool:
            monkeypatch.setattr(UploadQueries, "secure", lease)
            monkeypatch.setattr(os, "fdatasync", fail)
            return lease(*given)

        monkeypatch.setattr(UploadQueries, "secure", secure)
        with pytest.raises(raised):
            registry.uploads.append(NAME, upload, [b"z"], offset=8)
        yield b"late"

    with pytest.raises(UploadBusy):
        registry.uploads.append(NAME, upload, stalled(), offset=8)
    assert registry.uploads.status(NAME, upload).offset == 8
    assert registry.uploads.append(NAME, upload, [b"!"], offset=8).offset == 9
    registry.uploads.finish(NAME, upload, Digest.of(b"reported!"))
    assert read(registry, Digest.of(b"reported!")) == b"reported!"
