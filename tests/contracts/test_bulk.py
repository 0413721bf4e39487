"""Files that are written in bulk: in the store's layout, durable in the right order, or not there at all."""

import ctypes
import errno
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from dualreg.storage import durable, whole
from dualreg.storage.bulk import Bulk, BulkLink
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.whole import WholeFileSystem

ONE, TWO = b"one", b"two"
AT = datetime(2014, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> FilesystemStore:
    """An empty store."""
    return FilesystemStore(tmp_path / "data")


@pytest.fixture(params=[True, False])
def synced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced, as paths; the whole file system, if it can be, is the empty path."""
    calls = list[str]()
    monkeypatch.setattr(durable, "sync", calls.append)
    monkeypatch.setattr(WholeFileSystem, "sync", lambda _: request.param and not calls.append(""))
    return calls


def links(*names: str) -> list[BulkLink]:
    """Return link files in a folder for each name, two in each."""
    files = [(name, file) for name in names for file in ("link", "in/x")]
    return [BulkLink(f"team/app/{name}", file, name.encode(), AT) for name, file in files]


def read(store: FilesystemStore, digest: Digest) -> bytes:
    """Return the bytes of a blob."""
    with store.open(digest) as reader:
        return reader.read()


def test_blobs_and_links_get_their_names(store: FilesystemStore, tmp_path: Path) -> None:
    """In folders that are new or not; those that are right stay, and nothing is left among the uploads."""
    store.write_link("team/app/b/link", b"b", AT - timedelta(days=1))
    store.write_link("team/app/c/link", b"wrong")
    given = links("a", "b", "c")
    with Bulk(store.places()) as files:
        for content in (ONE, TWO, ONE):
            files.add_document(Digest.of(content), content)
        files.stage_links(given)
        files.wait()
        assert store.stat(Digest.of(ONE)) is None
        assert store.read_link("team/app/a/link") is None
        files.publish()
        files.place_links(given)
        files.wait()
    for content in (ONE, TWO):
        assert read(store, Digest.of(content)) == content
        assert store.path(Digest.of(content)).stat().st_mode & 0o777 == 0o444
    found = {each.path: store.read_link(each.path) for each in given}
    assert {path: each and each.content for path, each in found.items()} == {
        each.path: each.content for each in given
    }
    times = {path: each.at for path, each in found.items() if each}
    assert times.pop("team/app/b/link") == AT - timedelta(days=1)
    assert {*times.values()} == {AT}
    assert not [*(tmp_path / "data/uploads").iterdir()]


def test_names_come_after_bytes(store: FilesystemStore, synced: list[str]) -> None:
    """One wait for the bytes and their folders, one for the blobs, one for the links."""
    with Bulk(store.places()) as files:
        files.add_document(Digest.of(ONE), ONE)
        given = links("a", "b", "c")
        files.stage_links(given)
        steps = list[list[str]]()
        for step in (lambda: None, files.publish, lambda: files.place_links(given)):
            step()
            files.wait()
            steps.append([*synced])
            synced.clear()
    bytes_, blobs, names = steps
    assert "" in bytes_ or {path.rpartition("/")[2] for path in bytes_} >= {"data", "link", "x"}
    assert blobs == [str(store.path(Digest.of(ONE)).parent.parent)]
    assert names == [str(store.places().names / "team/app")]


def test_folders_of_a_run_that_died_survive_a_power_cut(store: FilesystemStore, synced: list[str]) -> None:
    """It may have made all of them, and synced none: each is synced, once."""
    names = store.places().names
    (names / "team/app").mkdir(parents=True)
    for expected in (True, False):
        with Bulk(store.places()) as files:
            files.stage_links(links(f"{expected}"))
            files.wait()
        folders = {str(each) for each in (names, names / "team", names.parent)}
        assert "" in synced or folders.intersection(synced) == (folders if expected else set())
        synced.clear()


def test_a_folder_that_was_made_meanwhile(store: FilesystemStore) -> None:
    """The files go into it."""
    with Bulk(store.places()) as files:
        files.add_document(Digest.of(ONE), ONE)
        files.stage_links(links("a"))
        store.write_link("team/app/a/other", b"other")
        path = store.path(Digest.of(ONE))
        path.parent.mkdir()
        path.write_bytes(b"torn")
        files.publish()
        files.place_links(links("a"))
    assert path.read_bytes() == ONE
    assert sorted(store.list_links("team/app/a")) == ["in/", "link", "other"]


@pytest.mark.parametrize("hard", [True, False])
def test_files_are_shared(store: FilesystemStore, tmp_path: Path, hard: bool) -> None:  # noqa: FBT001 -- a case
    """As hard links, or as clones where the file system has these; else they have to be written."""
    source = tmp_path / "source"
    source.write_bytes(ONE)
    with Bulk(store.places()) as files:
        file = files.file()
        with source.open("rb") as opened:
            if not file.adopt(opened, hard=hard):
                assert not files.places.clones
                assert file.write([ONE]) == len(ONE)
        with file.open() as reader:
            assert reader.read() == ONE
        files.add_blob(Digest.of(ONE), file)
        files.publish()
    assert store.path(Digest.of(ONE)).samefile(source) is hard
    assert read(store, Digest.of(ONE)) == ONE


def test_a_clone_while_another_thread_cannot_make_one(
    store: FilesystemStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is there, and is not to be written again."""
    source, places = tmp_path / "source", store.places()
    source.write_bytes(ONE)
    monkeypatch.setattr(durable, "clone", lambda *_: setattr(places, "clones", False))
    with Bulk(places) as files, source.open("rb") as opened:
        assert files.file().adopt(opened, hard=False)
    assert not places.clones


def test_a_disk_that_fails(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait raises what the disk did."""

    class Failing:
        def syncfs(self, _: int) -> int:
            ctypes.set_errno(errno.EIO)
            return -1

    with Bulk(store.places()) as files, WholeFileSystem(files.places.uploads) as own:
        monkeypatch.setattr(own, "_descriptor", 0)
        monkeypatch.setattr(whole, "_libc", Failing)
        with pytest.raises(OSError, match="Input/output error"):
            own.sync()
        monkeypatch.setattr(own, "_descriptor", None)
        assert not own.sync()


@pytest.mark.parametrize(("release", "known"), [("5.7.9", False), ("5.8", True), ("6.1.0-13", True)])
def test_kernels_that_report_errors(release: str, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 -- a case
    """Others are not asked for a whole file system."""
    monkeypatch.setattr("platform.release", lambda: release)
    whole._is_new_enough.cache_clear()
    assert whole._is_new_enough() is known
    whole._is_new_enough.cache_clear()
