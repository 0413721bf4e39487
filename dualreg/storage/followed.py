"""FollowedStore: a copy of another registry's folder, which is only read, and a folder beside it.

What clients read comes from the copy. What this registry derives from it, such as the JSONs of V1 views, is
written to the folder beside it, and so is whatever else a store is asked to write. Nothing is written to the
copy, which may be mounted read-only and belong to somebody else. Link files are read from the copy alone.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import parse_qs, unquote, urlsplit

from dualreg.image.digest import Digest
from dualreg.ownership import make_folders
from dualreg.storage.base import StoredBlob, merged
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.link_folder import REGISTRY
from dualreg.storage.link_tree import LinkFile

#: Folders of a repository that contain names.
_NAMING = frozenset({"_layers", "_manifests", "_v1"})
#: Stands for what something says that cannot be read.
UNREAD = -1
#: Keeps sums within the integers that take one word.
_WORD = (1 << 61) - 1


class FollowedStore(FilesystemStore):
    """A Store whose content is that of the folder *tree*, and what was derived from it."""

    def __init__(self, tree: Path, own: Path) -> None:
        """Read from the folder *tree*, and write to the folder *own*."""
        super().__init__(own)
        self._tree = FilesystemStore(tree)
        self._repositories = f"{tree / REGISTRY / 'repositories'}"
        self._withheld = f"{self._corrupt}/withheld"

    @classmethod
    def at(cls, url: str) -> Self:
        """Return the copy in the folder ``follow:///PATH?own=PATH``, with a folder for what is derived."""
        parts = urlsplit(url)
        return cls(Path(unquote(parts.path)), Path(parse_qs(parts.query)["own"][0]))

    def tree(self) -> tuple[int, int] | None:
        """Return what tells the folder of repositories from that of another copy.

        None: it is not there, as while a disk is not mounted.
        """
        try:
            found = os.stat(self._repositories)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def marks(self) -> Iterator[tuple[str, int]]:
        """Yield the name of each repository, and a number that changes when one of its link files does.

        Files that are written, replaced or removed count; what they say is not read. A number means something
        in this process only. It is UNREAD where something cannot be read, which may be folders of other
        repositories. That something has just vanished is no error.

        Raises:
            OSError: the folder of all repositories cannot be read.
        """
        return _marks(self._repositories, "")

    def _readable(self, digest: Digest) -> str:
        """Return the file of a blob: that of the copy, if it has a sound one.

        A symbolic link, which rsync copies as one, may lead to any file of this machine, and is none.
        """
        theirs = f"{self._tree.path(digest)}"
        is_sound = _is_file(theirs) and not self._is_withheld(digest, theirs)
        return theirs if is_sound else self._file(digest)

    def identity(self, digest: Digest) -> str:
        """Return what tells the file of a blob from others, and from itself before it was changed at all.

        Empty: there is none, or it cannot be looked at.
        """
        try:
            found = os.stat(self._readable(digest))
        except OSError:
            return ""
        return f"{_identity(found).decode()} {found.st_ctime_ns}"

    def owns_file(self, path: Path, digest: Digest) -> bool:
        return self._tree.owns_file(path, digest)

    def internal_path(self, digest: Digest) -> str | None:
        is_theirs = self._readable(digest) == f"{self._tree.path(digest)}"
        return self._tree.internal_path(digest) if is_theirs else None

    def is_local(self) -> bool:
        return self._tree.is_local() and super().is_local()

    def walk(self) -> Iterator[StoredBlob]:
        return merged(self._tree.walk(), super().walk(), key=lambda blob: str(blob.digest))

    def quarantine(self, digest: Digest, reader: BinaryIO) -> bool:
        """Take the blob out of service, as ``BlobStore``; a file of the copy stays where it is.

        It is noted, and does not count as there until it is replaced.
        """
        theirs = f"{self._tree.path(digest)}"
        if self._readable(digest) != theirs:
            return super().quarantine(digest, reader)
        opened = os.fstat(reader.fileno())
        with suppress(FileNotFoundError):
            if os.path.samestat(opened, os.stat(theirs)):
                make_folders(self._corrupt / "withheld")
                self._stage(_identity(opened)).rename(self._note(digest))
                return True
        return False

    def _note(self, digest: Digest) -> str:
        return f"{self._withheld}/{digest.algorithm}-{digest.hex}"

    def _is_withheld(self, digest: Digest, file: str) -> bool:
        """Return whether a file of the copy is one that was found damaged."""
        try:
            with open(self._note(digest), "rb") as note:
                return note.read() == _identity(os.stat(file))
        except FileNotFoundError:
            return False

    def read_link(self, path: str) -> LinkFile | None:
        return self._tree.read_link(path)

    def read_links(self, paths: Sequence[str]) -> Sequence[LinkFile | None]:
        return self._tree.read_links(paths)

    def list_links(self, folder: str) -> Sequence[str]:
        return self._tree.list_links(folder)

    def link_paths(self) -> Iterator[str]:
        return self._tree.link_paths()

    def walk_links(self) -> Iterator[tuple[str, bytes]]:
        return self._tree.walk_links()

    def read_private(self, name: str) -> bytes | None:
        return self._tree.read_private(name)


def _is_file(path: str) -> bool:
    """Return whether there is a regular file: no symbolic link, nor a pipe, which makes readers wait."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _identity(found: os.stat_result) -> bytes:
    """Return what tells a file from another one, or from itself before it was written to."""
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}".encode()


def _marks(folder: str, name: str) -> Iterator[tuple[str, int]]:
    try:
        below = [each.name for each in _entries(folder) if _is_folder(each)]
    except OSError:
        if not name:
            raise
        yield name, UNREAD
        return
    if name and not _NAMING.isdisjoint(below):
        yield name, _sum(f"{folder}/{each}" for each in _NAMING.intersection(below))
    for each in sorted(below):
        if each[0] not in "._":
            yield from _marks(f"{folder}/{each}", f"{name}/{each}".removeprefix("/"))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Return whether an entry is a folder; so is what cannot be looked at."""
    try:
        return entry.is_dir()
    except OSError:
        return True


def _sum(folders: Iterable[str]) -> int:
    try:
        return sum(map(_mark, folders)) & _WORD
    except OSError:
        return UNREAD


def _mark(folder: str) -> int:
    """Return the sum of what tells the files below a folder from others, in any order."""
    total, folders = 0, [folder]
    while folders:
        for entry in _entries(folders.pop()):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
                continue
            with suppress(FileNotFoundError):
                found = entry.stat()
                total += hash((entry.path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
    return total & _WORD


def _entries(folder: str) -> Sequence["os.DirEntry[str]"]:
    """Return what is in a folder, but for names with a dot, as rsync gives to files that arrive."""
    try:
        with os.scandir(folder) as entries:
            return [each for each in entries if not each.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
