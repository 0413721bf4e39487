"""Changes of link files that cannot be undone keep no others from being undone."""

from datetime import datetime
from pathlib import Path

import pytest

from dualreg.image.names import UploadId
from dualreg.storage import undo
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.link_tree import FolderLinks


class _Failing(FilesystemStore):
    """A store that cannot write one path any more, or bring anything back."""

    broken = ""
    keeps = False

    def write_link(self, path: str, content: bytes, at: datetime | None = None) -> None:
        if path == self.broken:
            raise OSError("no space")
        super().write_link(path, content, at)

    def drop(self, aside: UploadId) -> None:
        if self.keeps:
            raise OSError("it does not answer")
        super().drop(aside)

    def bring_back(self, aside: UploadId, *folders: FolderLinks) -> None:
        if self.keeps:
            raise OSError("no space")
        super().bring_back(aside, *folders)


@pytest.fixture
def store(tmp_path: Path) -> _Failing:
    """A store with three link files."""
    store = _Failing(tmp_path)
    for path in ("a/one", "a/two", "b/three"):
        store.write_link(path, b"before")
    return store


def _fail(store: _Failing, broken: str = "", *, keeps: bool = False) -> None:
    """Change all link files and undo that, when the store fails."""
    with undo.noted(store) as restore:
        undo.write(store, "a/one", b"after", None)
        undo.write(store, "a/two", b"after", None)
        undo.remove_folders(store, FolderLinks("b"))
        store.broken, store.keeps = broken, keeps
        restore()


def test_the_rest_is_undone(store: _Failing) -> None:
    """Both the files that were written and the folders that were removed."""
    _fail(store, "a/two")
    assert dict(store.walk_links()) == {"a/one": b"before", "a/two": b"after", "b/three": b"before"}


def test_what_cannot_be_brought_back_is_kept(store: _Failing, tmp_path: Path) -> None:
    """The files of a removed folder are still set aside, where it is the operator's to look for them."""
    _fail(store, keeps=True)
    assert dict(store.walk_links()) == {"a/one": b"before", "a/two": b"before"}
    assert [file.read_bytes() for file in (tmp_path / "uploads").glob("*/*/three")] == [b"before"]


def test_what_cannot_be_deleted_fails_nothing(store: _Failing, caplog: pytest.LogCaptureFixture) -> None:
    """The change is committed by then."""
    with undo.noted(store):
        undo.remove_folders(store, FolderLinks("a"))
        undo.remove_folders(store, FolderLinks("b"))
        store.keeps = True
    assert dict(store.walk_links()) == {}
    assert [each.getMessage() for each in caplog.records] == [
        "cannot delete link files that were removed: it does not answer"
    ] * 2
    assert len({each.upload for each in store.staged()}) == 2
