"""FilesystemStore keeps the contract, and what is more: its tree, its modes, and the order of its writes."""

import errno
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dualreg import ownership
from dualreg.catalog.database import Catalog
from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.storage import filesystem, open_store, parallel
from dualreg.storage.base import StoredBlob, SupportsAccelRedirect
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.link_tree import LinkFile, StagedLink
from tests.contracts.blob_store import BlobStoreContract
from tests.programs import require

DATA = b"some bytes"
DIGEST = Digest.of(DATA)
BLOBS = Path("docker/registry/v2/blobs")
NAMES = Path("docker/registry/v2/repositories")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that a store makes when it is first written to."""
    return tmp_path / "deep" / "root"


class TestFilesystemStore(BlobStoreContract):
    """The contract, on disk."""

    @pytest.fixture
    def store(self, root: Path) -> FilesystemStore:
        """An empty store."""
        return FilesystemStore(root)


@pytest.fixture
def store(root: Path) -> FilesystemStore:
    """An empty store."""
    return FilesystemStore(root)


def _publish(store: FilesystemStore, data: bytes) -> Digest:
    upload, digest = UploadId.new(), Digest.of(data)
    store.append(upload, [data], offset=0)
    store.publish(upload, digest)
    return digest


def test_nothing_is_written_before_the_first_write(store: FilesystemStore, root: Path) -> None:
    """Opening and looking at a store makes no folder."""
    assert [*store.walk(), *store.staged(), *store.walk_links()] == []
    store.delete(DIGEST)
    store.discard(UploadId.new())
    store.remove_link("a/link")
    assert not root.exists()


def test_bytes_lie_in_the_reference_registrys_tree(store: FilesystemStore, root: Path) -> None:
    """A blob's file, a link's and an upload's are where the reference registry and our documents say."""
    upload = UploadId.new()
    store.append(upload, [b"staged"], offset=0)
    _publish(store, DATA)
    store.write_link("x/_manifests/tags/v1/current/link", b"content")
    files = {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert files == {
        Path("uploads") / upload: b"staged",
        BLOBS / "sha256" / DIGEST.hex[:2] / DIGEST.hex / "data": DATA,
        NAMES / "x/_manifests/tags/v1/current/link": b"content",
    }


def test_a_blob_is_read_only(store: FilesystemStore, root: Path) -> None:
    """Published files have mode 0444: nobody changes one by mistake."""
    _publish(store, DATA)
    path = root / BLOBS / store.internal_path(DIGEST)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_a_front_server_finds_blobs(store: FilesystemStore, root: Path) -> None:
    """The internal path leads from the blob folder to the bytes."""
    _publish(store, DATA)
    assert isinstance(store, SupportsAccelRedirect)
    assert (root / BLOBS / store.internal_path(DIGEST)).read_bytes() == DATA


def test_readers_are_real_files(store: FilesystemStore) -> None:
    """The kernel can send them itself."""
    _publish(store, DATA)
    with store.open(DIGEST, start=5) as reader:
        assert os.pread(reader.fileno(), 100, 0) == DATA


@pytest.mark.parametrize("error", [None, errno.EAGAIN, errno.EOPNOTSUPP])
def test_nothing_is_read_from_a_disk_at_once(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, error: int | None
) -> None:
    """Only what is in memory, where the file system can tell."""
    _publish(store, DATA)
    read, flags = os.preadv, []

    def look(descriptor: int, buffers: list[bytearray], offset: int, flag: int) -> int:
        flags.append(flag)
        if error:
            raise OSError(error, os.strerror(error))
        return read(descriptor, buffers, offset)

    monkeypatch.setattr("os.preadv", look)
    found = store.read_at_once(DIGEST, len(DATA), start=2, length=4)
    assert found == (None if error else DATA[2:6])
    assert flags == [os.RWF_NOWAIT]
    if not error:
        monkeypatch.delattr("os.RWF_NOWAIT")
        assert store.read_at_once(DIGEST, len(DATA), start=2, length=4) is None


def test_deleting_leaves_no_empty_folder(store: FilesystemStore, root: Path) -> None:
    """A deleted blob's own folder goes with it."""
    _publish(store, DATA)
    store.delete(DIGEST)
    assert [*(root / BLOBS).rglob(DIGEST.hex)] == []


@pytest.mark.parametrize(
    "junk",
    [
        BLOBS / "data",
        BLOBS / "sha256/data",
        BLOBS / "sha256/.DS_Store",
        BLOBS / "sha256/aa/readme",
        BLOBS / "sha256/aa/nothex/data",
        BLOBS / "sha256/aa" / ("a" * 63) / "data",
        BLOBS / "md5/aa" / ("a" * 32) / "data",
        BLOBS / "sha256" / DIGEST.hex[:2] / DIGEST.hex / "data.old",
        Path("uploads/readme"),
        Path("uploads/a-b-c-d-e"),
        Path("uploads/.hidden"),
        Path("lost+found/x"),
        NAMES / "x/.link.0123",
    ],
    ids=str,
)
def test_junk_is_passed_over(store: FilesystemStore, root: Path, junk: Path) -> None:
    """Files that are no blobs, uploads or links do not show, and do not hide those that are."""
    upload = UploadId.new()
    store.append(upload, [b"staged"], offset=0)
    _publish(store, DATA)
    store.write_link("x/link", b"1")
    (root / junk).parent.mkdir(parents=True, exist_ok=True)
    (root / junk).write_bytes(b"junk")
    assert [(blob.digest, blob.size) for blob in store.walk()] == [(DIGEST, len(DATA))]
    assert [each.upload for each in store.staged()] == [upload]
    assert [*store.walk_links()] == [("x/link", b"1")]


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """Record, in order, every fsync, rename and unlink, with the path it was about."""
    calls: list[tuple[str, Path]] = []

    def record(owner: object, name: str, paths: Callable[..., list[Path]]) -> None:
        real = getattr(owner, name)

        def recorded(*args: Any, **kwargs: Any) -> Any:
            calls.extend((name, path) for path in paths(*args))
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, recorded)

    monkeypatch.setattr(parallel, "_numbers", lambda: None)  # which makes several by one call
    record(os, "fsync", lambda descriptor: [Path(f"/proc/self/fd/{descriptor}").readlink()])
    record(os, "rename", lambda source, target: [Path(source), Path(target)])
    record(os, "unlink", lambda path, **_: [Path(path)])
    record(os, "mkdir", lambda path, *_: [Path(path)])
    return calls


def _positions(journal: list[tuple[str, Path]], *steps: tuple[str, Path]) -> list[int]:
    """Return where in the journal each of *steps* happened last."""
    return [len(journal) - 1 - journal[::-1].index(step) for step in steps]


def test_published_bytes_survive_a_power_cut(
    store: FilesystemStore, root: Path, journal: list[tuple[str, Path]]
) -> None:
    """The file is synced before it is renamed, and the folder that it came to after."""
    upload = UploadId.new()
    store.append(upload, [DATA], offset=0)
    assert journal[-2:] == [("fsync", root / "uploads" / upload), ("fsync", root / "uploads")]
    store.publish(upload, DIGEST)
    blob = root / BLOBS / store.internal_path(DIGEST)
    steps = _positions(
        journal,
        ("fsync", root / "uploads" / upload),
        ("rename", root / "uploads" / upload),
        ("rename", blob),
        *(("fsync", folder) for folder in blob.parents[:3]),
    )
    assert steps == sorted(steps)
    assert steps[-1] == len(journal) - 1


def test_prepared_bytes_survive_a_power_cut(
    store: FilesystemStore, root: Path, journal: list[tuple[str, Path]]
) -> None:
    """What is left to publishing waits for nothing; a blob that exists is replaced.

    The folder that it shares with others is durable after the first one.
    """
    blob = root / BLOBS / store.internal_path(DIGEST)
    for folders in blob.parents[:3], blob.parents[:2]:
        upload = UploadId.new()
        store.append(upload, [DATA], offset=0)
        journal.clear()
        store.prepare(upload, DIGEST)()
        assert journal[-len(folders) :] == [("fsync", folder) for folder in folders]
        assert blob.stat().st_nlink == 2
        journal.clear()
        store.publish(upload, DIGEST)
        assert journal == [("unlink", root / "uploads" / upload)]
        assert (blob.stat().st_nlink, stat.S_IMODE(blob.stat().st_mode)) == (1, 0o444)


def test_a_blob_is_replaced_by_durable_bytes_alone(
    store: FilesystemStore, root: Path, journal: list[tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents are pushed again and again: a disk that fails then takes nothing that was answered for."""
    blob = root / BLOBS / store.internal_path(_publish(store, DATA))
    first, second = UploadId.new(), UploadId.new()
    store.stage(first, DATA)
    journal.clear()
    wait = store.prepare(first, DIGEST)
    steps = _positions(journal, ("fsync", root / "uploads" / first), ("rename", blob))
    assert steps == sorted(steps)
    wait()
    store.publish(first, DIGEST)
    store.stage(second, DATA)
    kept = blob.stat()

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        store.prepare(second, DIGEST)()
    assert os.path.samestat(blob.stat(), kept)


def test_a_blob_that_another_request_publishes_meanwhile(
    store: FilesystemStore, root: Path, journal: list[tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is replaced as well, when the bytes are durable."""
    blob, upload, link = root / BLOBS / store.internal_path(DIGEST), UploadId.new(), os.link
    store.stage(upload, DATA)

    def publish(source: str, target: str) -> None:
        monkeypatch.setattr(os, "link", link)
        _publish(store, DATA)
        journal.clear()
        link(source, target)

    monkeypatch.setattr(os, "link", publish)
    store.prepare(upload, DIGEST)()
    steps = _positions(
        journal, ("fsync", root / "uploads" / upload), ("rename", blob), ("fsync", blob.parent)
    )
    assert steps == sorted(steps)
    store.publish(upload, DIGEST)
    assert [*store.staged()] == []


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("links", [1, 2])
def test_documents_are_synced_whatever_their_files_look_like(
    store: FilesystemStore,
    root: Path,
    journal: list[tuple[str, Path]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    prepared: bool,
    links: int,
) -> None:
    """Some file systems have no modes; some backups make hard links of everything that they find."""
    monkeypatch.setattr(filesystem, "_PUBLISHED", 0o644)
    upload = UploadId.new()
    staged, blob = root / "uploads" / upload, root / BLOBS / store.internal_path(DIGEST)
    store.stage(upload, DATA)
    if links > 1:
        os.link(staged, root / "backup")
    if prepared:
        store.prepare(upload, DIGEST)()
    store.publish(upload, DIGEST)
    steps = _positions(journal, ("fsync", staged), ("fsync", blob.parent))
    assert steps == sorted(steps)


def test_a_document_that_was_discarded_as_a_stray(
    store: FilesystemStore, root: Path, journal: list[tuple[str, Path]]
) -> None:
    """By a process whose clock is ahead, when it had its second name: that is synced."""
    upload, blob = UploadId.new(), root / BLOBS / store.internal_path(DIGEST)
    store.stage(upload, DATA)
    wait = store.prepare(upload, DIGEST)
    (root / "uploads" / upload).unlink()
    wait()
    store.publish(upload, DIGEST)
    assert ("fsync", blob) in journal


@pytest.mark.parametrize("known", [False, True])
def test_a_file_system_without_hard_links(
    store: FilesystemStore,
    monkeypatch: pytest.MonkeyPatch,
    known: bool,  # noqa: FBT001
) -> None:
    """Bytes are published by a rename then; Linux looks at the new name before it asks the file system."""
    if known:
        _publish(store, DATA)

    def refuse(_: str, target: str) -> None:
        code = errno.EEXIST if Path(target).exists() else errno.EPERM
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    upload = UploadId.new()
    store.append(upload, [DATA], offset=0)
    store.prepare(upload, DIGEST)()
    assert bool(store.stat(DIGEST)) == known
    store.publish(upload, DIGEST)
    with store.open(DIGEST) as reader:
        assert reader.read() == DATA
    assert [*store.staged()] == []
    assert stat.S_IMODE(store.path(DIGEST).stat().st_mode) == 0o444


@pytest.mark.parametrize("call", ["chmod", "link", "rename"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("known", [False, True])
def test_a_blob_is_deleted_while_it_is_prepared(
    store: FilesystemStore,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    when: str,
    known: bool,  # noqa: FBT001
) -> None:
    """A collection, or one that found damage, may take its old bytes at any moment: it is published then."""
    if known:
        _publish(store, DATA)
    upload = UploadId.new()
    store.append(upload, [DATA], offset=0)
    real = getattr(os, call)

    def late(*args: Any, **kwargs: Any) -> None:
        if when == "before":
            store.delete(DIGEST)
        real(*args, **kwargs)
        if when == "after":
            store.delete(DIGEST)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, late)
        store.prepare(upload, DIGEST)()
    assert [each.upload for each in store.staged()] == [upload]
    store.publish(upload, DIGEST)
    assert [*store.walk()] == [StoredBlob(DIGEST, len(DATA))]
    assert [*store.staged()] == []
    assert stat.S_IMODE(store.path(DIGEST).stat().st_mode) == 0o444


def test_an_upload_that_is_prepared_again_has_no_third_name(store: FilesystemStore) -> None:
    """A rename of one name of a file to another one does nothing."""
    upload = UploadId.new()
    store.append(upload, [DATA], offset=0)
    for _ in range(2):
        store.prepare(upload, DIGEST)()
        assert [each.upload for each in store.staged()] == [upload]
    store.publish(upload, DIGEST)
    assert store.path(DIGEST).stat().st_nlink == 1


def test_two_requests_prepare_an_upload_at_the_same_moment(
    store: FilesystemStore, root: Path, journal: list[tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait for the disk: the one that publishes it first may not be the one that gave it the name."""
    blob, upload, real = root / BLOBS / store.internal_path(DIGEST), UploadId.new(), os.link
    store.append(upload, [DATA], offset=0)

    def late(source: str, target: str) -> None:
        real(source, target)
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", late)
        wait = store.prepare(upload, DIGEST)
    journal.clear()
    wait()
    assert journal == [("fsync", folder) for folder in blob.parents[:3]]
    store.publish(upload, DIGEST)
    assert [*store.walk()] == [StoredBlob(DIGEST, len(DATA))]
    assert [*store.staged()] == []


@pytest.mark.parametrize("change", [FilesystemStore.delete, lambda store, _: _publish(store, DATA)])
def test_an_upload_can_be_written_after_prepare(
    store: FilesystemStore, root: Path, change: Callable[[FilesystemStore, Digest], None]
) -> None:
    """If the blob was deleted or replaced since then, the file is the upload's alone, and read-only."""
    upload = UploadId.new()
    store.append(upload, [DATA], offset=0)
    store.prepare(upload, DIGEST)()
    change(store, DIGEST)
    staged = root / "uploads" / upload
    assert (staged.stat().st_nlink, stat.S_IMODE(staged.stat().st_mode)) == (1, 0o444)
    real, modes = os.open, dict[str, int]()

    def look(path: str | Path, *args: int, **kwargs: Any) -> int:
        modes[str(path)] = stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116 -- which it opens
        return real(path, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", look)
        store.append(upload, [b"!"], offset=len(DATA))
    assert modes[str(staged)] == 0o600  # for others than root, it could not be opened


def test_a_prepared_upload_is_copied_only_as_far_as_it_is_changed(store: FilesystemStore, root: Path) -> None:
    """The request that ends it may come again: it writes nothing, and costs nothing, however long it is."""
    upload, staged = UploadId.new(), root / "uploads"
    store.append(upload, [DATA], offset=0)
    store.prepare(upload, DIGEST)()
    store.append(upload, iter([b"", b""]), offset=len(DATA))
    assert staged.joinpath(upload).samefile(store.path(DIGEST))
    read, copied = os.write, list[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: (copied.append(len(data)), read(fd, data))[1])
        store.append(upload, [b"!"], offset=3)
    assert copied == [3, 1]
    assert (staged / upload).read_bytes() == DATA[:3] + b"!"
    assert store.path(DIGEST).read_bytes() == DATA


def test_a_prepared_upload_that_cannot_be_copied_leaves_nothing(
    store: FilesystemStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is not filled further by each attempt."""
    upload = UploadId.new()
    store.append(upload, [DATA], offset=0)
    store.prepare(upload, DIGEST)()

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(OSError, match="No space"):
        store.append(upload, [b"!"], offset=len(DATA))
    assert [path.name for path in (root / "uploads").iterdir()] == [upload]


def test_staged_links_survive_a_power_cut(
    store: FilesystemStore, root: Path, journal: list[tuple[str, Path]]
) -> None:
    """Files and new folders are synced before they have names; then each folder once, when all have.

    What is missing is staged once for all that is below it. What is new is durable for those who come after.
    """
    at = datetime(2020, 1, 2, tzinfo=UTC)
    for path in ("a/1/link", "b/link", "a/link", "b/2/link"):  # which finds each folder
        store.write_link(path, b"old")
    places = [("a/2", "link"), ("b", "link"), ("c/d/e", "link"), ("c/d/f", "g/link")]
    staged = [StagedLink(UploadId.new(), *place, b"new", at) for place in places]
    journal.clear()
    store.stage_links(staged)
    first, second, third, _ = (root / "uploads" / link.upload for link in staged)
    files = [first / "link", second, third / "d/e/link", third / "d/f/g/link"]
    folders = [first, third, third / "d", third / "d/e", third / "d/f", third / "d/f/g"]
    assert [path for name, path in journal if name == "fsync"] == [*files, *folders]
    journal.clear()
    store.place_links(staged)
    assert [name for name, _ in journal[:6]] == ["rename"] * 6
    synced = {path for name, path in journal if name == "fsync"}
    assert synced == {root / NAMES, *(root / NAMES / path for path in ("a", "b", "c/d/f/g"))}
    assert [store.read_link(link.path) for link in staged] == [LinkFile(b"new", at)] * 4
    journal.clear()
    store.write_link("c/d/e/other", b"new")
    fresh = next(path for name, path in journal if name == "fsync")
    target = root / NAMES / "c/d/e/other"
    assert journal == [("fsync", fresh), ("rename", fresh), ("rename", target), ("fsync", target.parent)]


@pytest.mark.parametrize("known", [False, True])
def test_documents_and_their_links_survive_a_power_cut(
    store: FilesystemStore,
    root: Path,
    journal: list[tuple[str, Path]],
    known: bool,  # noqa: FBT001
) -> None:
    """All of them are synced when the links are staged, by one call: with one wait for the disk."""
    if known:  # the folder that it shares with others
        _publish(store, DATA)
        store.delete(DIGEST)
    upload, link = UploadId.new(), StagedLink(UploadId.new(), "a", "link", b"1", datetime.now(UTC))
    store.stage(upload, DATA)
    wait = store.prepare(upload, DIGEST)
    staged, blob = root / "uploads", root / BLOBS / store.internal_path(DIGEST)
    assert ("fsync", staged / upload) not in journal
    journal.clear()
    synced = list[tuple[int, ...]]()
    with pytest.MonkeyPatch.context() as patch:
        real = parallel.sync
        patch.setattr(parallel, "sync", lambda *files: (synced.append(files), real(*files))[1])
        store.stage_links([link], [wait])
    folders = [*blob.parents[: 2 if known else 3], staged / link.upload]
    expected = {staged / upload, staged / link.upload / "link", *folders}
    assert expected <= {path for name, path in journal if name == "fsync"}
    assert [len(files) for files in synced] == [len(expected)]


@pytest.mark.parametrize("made", ["c/x", "c/d/x", "c/d/e/x", "c/d/e/link"])
def test_staged_folders_of_which_some_were_made_meanwhile(
    store: FilesystemStore, root: Path, journal: list[tuple[str, Path]], made: str
) -> None:
    """Another request has made them and died, so that a power cut may take them; what is there stays."""
    at = datetime(2020, 1, 2, tzinfo=UTC)
    staged = [StagedLink(UploadId.new(), f"c/d/{name}", "link", b"new", at) for name in "ef"]
    store.stage_links(staged)
    (root / NAMES / made).parent.mkdir(parents=True)
    (root / NAMES / made).touch()
    journal.clear()
    store.place_links(staged)
    found = {each.path: LinkFile(b"new", at).content for each in staged}
    assert dict(store.walk_links()) == {made: b""} | found
    above = {root / NAMES / folder for folder in ("", "c", "c/d") if made.startswith(folder)}
    assert above <= {path for name, path in journal if name == "fsync"}
    for link in staged:
        store.drop(link.upload)
    assert [*(root / "uploads").iterdir()] == []


@pytest.mark.parametrize("path", ["c/d/e", "c/d/f"])
@pytest.mark.parametrize("one", [False, True])
def test_links_that_a_killed_request_has_placed(
    store: FilesystemStore,
    root: Path,
    journal: list[tuple[str, Path]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    path: str,
    one: bool,
) -> None:
    """They are right, but a power cut may take them, or a folder above: whoever relies on them waits."""
    store.write_link("c/d/f/other", b"new")
    staged = [StagedLink(UploadId.new(), path, "link", b"new", datetime(2020, 1, 2, tzinfo=UTC))]
    above = {root / NAMES / each for each in ("", "c", "c/d", path)}

    def place() -> set[Path]:
        journal.clear()
        if one:
            store.write_link(f"{path}/link", b"new")
        else:
            store.stage_links(staged)
            store.place_links(staged)
        return {path for name, path in journal if name == "fsync"}

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        store.stage_links(staged)
        store.place_links(staged)
    monkeypatch.setattr(ownership, "_durable", {})  # as in another process
    assert above <= place()
    assert place() == {root / NAMES / path}


def test_new_folders_survive_a_power_cut(
    store: FilesystemStore, root: Path, journal: list[tuple[str, Path]]
) -> None:
    """Every folder that is made is made durable in its parent before anything is put into it.

    A blob's own folder, and the one above, are so together with what was put into them: less waits.
    """
    _publish(store, DATA)
    own = root / BLOBS / "sha256" / DIGEST.hex[:2] / DIGEST.hex
    made = [path for name, path in journal if name == "mkdir"]
    assert own in made
    for folder in made:
        after = journal[journal.index(("mkdir", folder)) + 1 :]
        assert ("fsync", folder.parent) in (after if folder in (own, own.parent) else after[:1])
    assert journal.count(("fsync", own.parent)) == 1


def test_a_folder_of_a_process_that_died_survives_a_power_cut(
    store: FilesystemStore, root: Path, journal: list[tuple[str, Path]]
) -> None:
    """Another process may have been killed before it synced a folder: whoever finds it does, once."""
    folder = root / "docker/registry/v2/repositories/team/app/_manifests/tags/latest/current"
    folder.mkdir(parents=True)
    for content in b"one", b"two":
        store.write_link("team/app/_manifests/tags/latest/current/link", content)
    (first,) = _positions(journal, ("fsync", folder.parent))
    assert first < _positions(journal, ("fsync", folder))[0]
    assert journal.count(("fsync", folder.parent)) == 1


def test_a_folder_that_was_made_again_survives_a_power_cut(
    store: FilesystemStore, root: Path, journal: list[tuple[str, Path]]
) -> None:
    """Another process removed it as empty, made it again, and was killed before it synced that."""
    folder = root / NAMES / "team/app/_layers"
    for content in b"one", b"two":
        store.write_link("team/app/_layers/link", content)
    time.sleep(0.05)  # the clock of the file system has ticks
    (folder / "link").unlink()
    folder.rmdir()
    folder.mkdir()
    journal.clear()
    for content in b"three", b"four":
        store.write_link("team/app/_layers/link", content)
    assert journal.count(("fsync", folder.parent)) == 1
    assert _positions(journal, ("fsync", folder.parent)) < _positions(journal, ("fsync", folder))


def test_the_folder_of_a_new_catalog_survives_a_power_cut(
    tmp_path: Path, journal: list[tuple[str, Path]]
) -> None:
    """The store comes later, finds it, and does not make it durable."""
    folder = tmp_path / "new" / "data"
    Catalog(f"sqlite:///{folder / 'catalog.sqlite3'}").close()
    steps = [step for made in (folder.parent, folder) for step in (("mkdir", made), ("fsync", made.parent))]
    assert [step for step in journal if step in steps] == steps


def test_an_append_that_changes_nothing_costs_nothing(
    store: FilesystemStore, journal: list[tuple[str, Path]]
) -> None:
    """The empty PUT that ends an upload does not wait for the disk; one that cuts bytes does."""
    upload = UploadId.new()
    store.append(upload, [DATA], offset=0)
    journal.clear()
    store.append(upload, (), offset=len(DATA))
    assert journal == []
    store.append(upload, (), offset=1)
    assert [name for name, _ in journal] == ["fsync"]


def test_links_survive_a_power_cut(
    store: FilesystemStore, root: Path, journal: list[tuple[str, Path]]
) -> None:
    """A link is written aside, synced, renamed over the old one, and its folder synced; removal likewise."""
    link = root / NAMES / "x" / "link"
    store.write_link("x/link", b"older")
    store.write_link("x/link", b"old")  # finds the folder for the first time
    journal.clear()
    store.write_link("x/link", b"new")
    fresh = journal[0][1]
    assert fresh.parent == root / "uploads"
    assert journal == [("fsync", fresh), ("rename", fresh), ("rename", link), ("fsync", link.parent)]
    journal.clear()
    store.remove_link("x/link")
    assert (journal[0], journal[-1]) == (("unlink", link), ("fsync", root / NAMES))


def test_deletes_do_not_wait_for_the_disk(
    store: FilesystemStore, root: Path, journal: list[tuple[str, Path]]
) -> None:
    """What a power cut brings back has no row and no link: a full collection deletes it again."""
    _publish(store, DATA)
    blob = root / BLOBS / store.internal_path(DIGEST)
    journal.clear()
    store.delete(DIGEST)
    assert journal == [("unlink", blob)]
    assert not blob.parent.exists()


def test_removing_links_takes_empty_folders_along(store: FilesystemStore, root: Path) -> None:
    """A folder without links would be listed as a name by the reference registry; others stay."""
    store.write_link("a/b/_manifests/tags/v1/current/link", b"1")
    store.write_link("a/_layers/link", b"2")
    store.remove_link("a/b/_manifests/tags/v1/current/link")
    folders = {path.relative_to(root / NAMES) for path in (root / NAMES).rglob("*") if path.is_dir()}
    assert folders == {Path("a"), Path("a/_layers")}
    store.remove_link("a/_layers/link")
    assert [*(root / NAMES).iterdir()] == []


def test_racing_writers_and_removers_of_links(store: FilesystemStore) -> None:
    """Folders that one removes as empty while another fills them: nobody fails, and the last write stays."""
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def work(action: Callable[[], None]) -> None:
        try:
            start.wait()
            for _ in range(150):
                action()
        except BaseException as error:  # noqa: BLE001 -- whatever a thread raises is what we look for
            failures.append(error)

    actions: list[Callable[[], None]] = [
        lambda: store.write_link("r/_manifests/tags/a/current/link", b"a"),
        lambda: store.remove_link("r/_manifests/tags/a/current/link"),
        lambda: store.write_link("r/_manifests/tags/b/current/link", b"b"),
        lambda: store.remove_link("r/_manifests/tags/b/current/link"),
    ]
    threads = [threading.Thread(target=work, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store.write_link("r/_manifests/tags/a/current/link", b"last")
    assert dict(store.walk_links())["r/_manifests/tags/a/current/link"] == b"last"


def test_an_upload_over_a_full_disk_fails_and_can_go_on(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short writes are completed; an error of the disk comes through and leaves the upload usable."""
    real, room = os.write, [3, 3, 0]

    def write(descriptor: int, data: bytes) -> int:
        if not room:
            return real(descriptor, data)
        if (size := room.pop(0)) == 0:
            raise OSError(28, "No space left on device")
        return real(descriptor, bytes(data)[:size])

    upload = UploadId.new()
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space left"):
        store.append(upload, [DATA], offset=0)
    assert store.append(upload, [DATA], offset=0) == len(DATA)
    with store.reopen(upload) as reader:
        assert reader.read() == DATA


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file:///srv/r", "FilesystemStore"),
        ("file:///srv/a%20b", "FilesystemStore"),
        ("memory:", "MemoryStore"),
    ],
)
def test_urls_choose_the_driver(url: str, expected: str) -> None:
    """A store's URL names its driver."""
    assert type(open_store(url)).__name__ == expected


@pytest.mark.parametrize("url", ["", "gs://bucket", "/srv/r", "http://x"])
def test_a_url_without_a_driver_is_refused(url: str) -> None:
    """There is no guessing what else a URL could mean."""
    with pytest.raises(ValueError, match="unsupported store"):
        open_store(url)


@pytest.mark.parametrize("hard", [True, False])
def test_a_file_is_adopted_or_left(tmp_path: Path, hard: bool) -> None:  # noqa: FBT001 -- parametrised
    """By its own inode, or its blocks where the file system shares those; its mode stays its owner's."""
    store = FilesystemStore(tmp_path / "store")
    path, upload = tmp_path / "layer", UploadId.new()
    path.write_bytes(b"layer")
    mode = path.stat().st_mode
    with path.open("rb") as file:
        adopted = store.stage_file(upload, file, hard=hard)
    if not adopted:
        assert not hard
        assert [*store.staged()] == []
        return
    with store.reopen(upload) as staged:
        assert staged.read() == b"layer"
    store.publish(upload, Digest.of(b"layer"))
    with store.open(Digest.of(b"layer")) as blob:
        assert (os.fstat(blob.fileno()).st_ino == path.stat().st_ino) is hard
    assert path.stat().st_mode == mode


def test_what_cannot_be_linked(tmp_path: Path) -> None:
    """A file of another file system, or one that was deleted; with blocks that are not shared, none is."""
    store, path = FilesystemStore(tmp_path / "store"), tmp_path / "layer"
    path.write_bytes(b"layer")
    with path.open("rb") as deleted, Path("/proc/self/status").open("rb") as elsewhere:
        path.unlink()
        for file in (deleted, elsewhere):
            with pytest.raises(OSError, match=r"."):
                store.stage_file(UploadId.new(), file, hard=True)
        assert store.stage_file(UploadId.new(), elsewhere, hard=False) is False
    assert [*store.staged()] == []


def test_what_was_opened_is_adopted(tmp_path: Path) -> None:
    """Not a link to it, nor what its owner puts in its place meanwhile."""
    store, upload, pointing = FilesystemStore(tmp_path / "store"), UploadId.new(), tmp_path / "pointing"
    path = tmp_path / "layer"
    path.write_bytes(b"layer")
    path.chmod(0o640)
    pointing.symlink_to("layer")
    with pointing.open("rb") as file:
        pointing.unlink()
        pointing.symlink_to("/etc/passwd")
        assert store.stage_file(upload, file, hard=True)
    store.publish(upload, Digest.of(b"layer"))
    assert store.path(Digest.of(b"layer")).lstat().st_ino == path.lstat().st_ino
    assert path.stat().st_mode & 0o777 == 0o640


def test_an_old_file_that_is_adopted_is_no_old_upload(tmp_path: Path) -> None:
    """Else garbage collection would take what a migration is reading."""
    path, upload, before = tmp_path / "layer", UploadId.new(), datetime.now(UTC) - timedelta(minutes=1)
    path.write_bytes(DATA)
    os.utime(path, (1, 1))
    store = FilesystemStore(tmp_path / "store")
    with path.open("rb") as file:
        assert store.stage_file(upload, file, hard=True)
    assert [staged.modified_at > before for staged in store.staged()] == [True]


def test_unfinished_uploads_are_nobody_elses(root: Path) -> None:
    """Until they are what their digest says; then, like link files, any server here may send them."""
    before = os.umask(0)
    try:
        store, upload = FilesystemStore(root), UploadId.new()
        store.append(upload, [DATA], offset=0)
        assert stat.S_IMODE((root / "uploads" / upload).stat().st_mode) == 0o600
        store.append(upload, [DATA], offset=len(DATA))
        assert stat.S_IMODE((root / "uploads" / upload).stat().st_mode) == 0o600
        store.publish(upload, DIGEST)
        store.write_link("x/link", b"y")
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path(DIGEST).stat().st_mode) == 0o444
    assert stat.S_IMODE((root / NAMES / "x/link").stat().st_mode) == 0o644


def test_a_link_that_is_right_is_left_alone(root: Path, tmp_path: Path) -> None:
    """Its time stays that of the first push; one with other content, or that cannot be read, is replaced."""
    store, link = FilesystemStore(root), root / NAMES / "a/link"
    store.write_link("a/link", b"1")
    os.utime(link, (1, 1))
    before = link.stat()
    store.write_link("a/link", b"1")
    after = link.stat()
    assert (after.st_mtime, after.st_ctime_ns, after.st_ino) == (1, before.st_ctime_ns, before.st_ino)
    store.write_link("a/link", b"2")
    assert (link.read_bytes(), link.stat().st_mtime > 1) == (b"2", True)
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    store.write_link("a/link", b"2")
    assert (link.is_symlink(), link.read_bytes()) == (False, b"2")


def test_a_private_file_is_taken_for_a_stray(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose clock is ahead discards it before it gets its name: it is written again."""
    stage = FilesystemStore._stage

    def late(self: FilesystemStore, content: bytes) -> Path:
        monkeypatch.setattr(FilesystemStore, "_stage", stage)
        staged = stage(self, content)
        for each in self.staged():
            self.discard(each.upload)
        return staged

    monkeypatch.setattr(FilesystemStore, "_stage", late)
    store.write_private("x.json", b"1")
    assert store.read_private("x.json") == b"1"


#: Appends 100 MiB to an upload in a new store, in 20 pieces.
APPEND = """
import sys; from pathlib import Path
from dualreg.image.names import UploadId; from dualreg.storage.filesystem import FilesystemStore
FilesystemStore(Path(sys.argv[1])).append(UploadId.new(), [bytes(5 << 20)] * 20, offset=0)
"""


def _append(folder: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run APPEND under strace; return how it ended, and its calls that write to the disk."""
    require("strace", package="strace")
    calls = folder / "calls"
    strace = ["strace", "-f", "-qq", "-e", "trace=sync_file_range,io_submit", *options, "-o", calls]
    done = subprocess.run(
        [*strace, sys.executable, "-c", APPEND, folder / "store"], check=False, capture_output=True, text=True
    )
    return done, calls.read_text().splitlines()


def test_large_uploads_go_to_the_disk_while_they_arrive(tmp_path: Path) -> None:
    """The disk is asked to write part by part, and little is left for the sync, which comes last."""
    done, calls = _append(tmp_path)
    begun = written = 0
    for call in calls[:-1]:
        if found := re.search(r"sync_file_range\(\d+, (\d+), (\d+), SYNC_FILE_RANGE_(\w+)\) += 0", call):
            start, end = int(found[1]), int(found[1]) + int(found[2])
            assert start == (begun if found[3] == "WRITE" else written)
            begun, written = (end, written) if found[3] == "WRITE" else (begun, end)
    assert (done.returncode, begun, written) == (0, 100 << 20, 36 << 20)
    assert "IOCB_CMD_FSYNC" in calls[-1]


@pytest.mark.parametrize(
    ("inject", "error"),
    [
        pytest.param("error=ENOSYS", "", id="not supported"),
        pytest.param("error=EIO:when=1..7", "", id="not begun"),
        pytest.param("error=EIO:when=8", "[Errno 5] Input/output error", id="not written"),
    ],
)
def test_a_disk_that_cannot_write_while_bytes_arrive(tmp_path: Path, inject: str, error: str) -> None:
    """If it has lost bytes, which the sync need not report again, the upload fails; else the sync decides."""
    done, calls = _append(tmp_path, "-e", f"inject=sync_file_range:{inject}")
    assert (bool(done.returncode), error in done.stderr) == (bool(error), True)
    assert bool(error) or "IOCB_CMD_FSYNC" in calls[-1]
