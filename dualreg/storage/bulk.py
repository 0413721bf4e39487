"""Bulk: many new files of a store, which wait for the disk together.

The order is that of single files: bytes are durable before they have names, and names before a row says so.
``Bulk.wait`` waits for all that was written, made or renamed since it was last called, several at a time.
"""

import os
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Protocol, Self, runtime_checkable

from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.ownership import create_folder, make_folders, owner_within
from dualreg.storage import durable, undo
from dualreg.storage.link_tree import LinkTree
from dualreg.storage.waits import Waits


class BulkLink(NamedTuple):
    """A link file that is to be *name* in *folder*, which is below the folder of repositories.

    Attributes:
        at: Its time; None: now.
        keeps: Whether a file that has the content already keeps its time.
    """

    folder: str
    name: str
    content: bytes
    at: datetime | None = None
    keeps: bool = True

    @property
    def path(self) -> str:
        """Where it is to be."""
        return f"{self.folder}/{self.name}"


@dataclass
class Places:
    """Where a store keeps its files.

    Attributes:
        links: The store, as a tree of links.
        clones: Whether files can be clones of others, as far as is known.
        settled: Whether everything that was there before is known to be on disk.
    """

    uploads: Path
    blobs: Path
    names: Path
    links: LinkTree
    clones: bool = True
    settled: bool = False


@runtime_checkable
class SupportsBulk(Protocol):
    """A store whose files can be written in bulk."""

    def places(self) -> Places:
        """Return where they are."""


@dataclass(frozen=True, slots=True)
class BulkFile:
    """The bytes of one blob that has no name yet; what is done to them is durable after ``Bulk.wait``."""

    path: str
    bulk: "Bulk"

    def write(self, chunks: Iterable[bytes]) -> int:
        """Write *chunks*, and return how many bytes they are."""
        descriptor, size = self.bulk.create(self.path, published=True), 0
        try:
            for chunk in chunks:
                durable.write(descriptor, chunk)
                size += len(chunk)
        finally:
            os.close(descriptor)
        return size

    def adopt(self, file: BinaryIO, *, hard: bool) -> bool:
        """Share an open file, as ``FileBacked.stage_file``; return False if the file system cannot.

        Raises:
            OSError: the link cannot be made.
        """
        if hard:
            durable.link(file.fileno(), self.path)
            self.bulk.unsynced[self.path] = None
        return hard or (self.bulk.places.clones and self._clone(file))

    def _clone(self, file: BinaryIO) -> bool:
        descriptor = self.bulk.create(self.path, published=True)
        try:
            durable.clone(file.fileno(), descriptor)
        except OSError:
            os.unlink(self.path)
            self.bulk.places.clones = False
            return False
        finally:
            os.close(descriptor)
        return True

    def open(self) -> BinaryIO:
        """Return a reader of the bytes from the beginning."""
        return open(self.path, "rb", buffering=0)  # the caller closes it


class Bulk(Waits):
    """The files of one step: a context, at whose end those are removed that have no name.

    A crash leaves one folder among the uploads, which is collected as they are.
    """

    def __init__(self, places: Places) -> None:
        """Write below *places*."""
        super().__init__(places.uploads, places.uploads.parent, durable.SHARED)
        self.places = places
        self._blobs = dict[Digest, str]()
        self._links = dict[str, str]()
        self._numbers = count()
        self._folder = f"{places.uploads}/{UploadId.new()}"
        self._owner: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        make_folders(self.places.uploads.parent)
        make_folders(self.places.uploads, durable.SHARED)
        create_folder(self._folder, durable.SHARED)
        self._owner = owner_within(self.places.uploads)
        self.whole.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.whole.__exit__(kind, error, trace)
        shutil.rmtree(self._folder, ignore_errors=True)

    def file(self) -> BulkFile:
        """Return a file for the bytes of a blob."""
        return BulkFile(f"{self._new_folder()}/data", self)

    def add_blob(self, digest: Digest, file: BulkFile) -> None:
        """Have ``publish`` make *file* a blob; the caller has verified it."""
        self._blobs[digest] = durable.above(file.path)
        self.make(self._prefix(digest))

    def add_document(self, digest: Digest, content: bytes) -> None:
        """Write a small blob, which the caller has verified, for ``publish``."""
        if digest not in self._blobs:
            file = self.file()
            file.write([content])
            self.add_blob(digest, file)

    def stage_links(self, links: Iterable[BulkLink]) -> None:
        """Write the link files that are not there yet, in folders that ``place_links`` renames."""
        for link in links:
            if os.path.lexists(f"{self.places.names}/{link.path}"):
                continue
            if link.folder not in self._links:
                self._links[link.folder] = self._new_folder()
                self.make(durable.above(f"{self.places.names}/{link.folder}"))
            self._stage_link(self._links[link.folder], link)

    @property
    def published(self) -> Collection[Digest]:
        """The blobs that ``publish`` makes."""
        return self._blobs.keys()

    def publish(self) -> None:
        """Give the blobs their names, in place of bytes that have them, and wait."""
        for digest, staged in self._blobs.items():
            self._rename(staged, f"{self._prefix(digest)}/{digest.hex}", ["data"])
        self.wait()

    def place_links(self, links: Iterable[BulkLink]) -> None:
        """Give the link files that were staged their names, and see that the other ones of *links* are right.

        A transaction that fails undoes that.
        """
        folders = dict[str, list[BulkLink]]()
        for link in links:
            staged = self._links.get(link.folder)
            if staged and os.path.lexists(f"{staged}/{link.name}"):
                folders.setdefault(link.folder, []).append(link)
                undo.note(self.places.links, {link.path: link.content})
            else:
                self._keep(link)
        for folder, members in folders.items():
            target = f"{self.places.names}/{folder}"
            self._rename(self._links[folder], target, [link.name for link in members])

    def create(self, path: str, *, published: bool = False) -> int:
        """Create a file, of which nobody may change the bytes if it is *published*; return its descriptor."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self.unsynced[path] = None
        if published:
            os.fchmod(descriptor, 0o444)
        self._give(descriptor)
        return descriptor

    def _new_folder(self) -> str:
        folder = f"{self._folder}/{next(self._numbers)}"
        self._make_staged(folder)
        return folder

    def _make_staged(self, folder: str) -> None:
        os.mkdir(folder, durable.SHARED)
        self._give(folder)
        self.unsynced[folder] = None

    def _give(self, file: str | int) -> None:
        """Give a new file, which has no name that others know, to the owner of the store."""
        if self._owner:
            os.chown(file, *self._owner)

    def _stage_link(self, staged: str, link: BulkLink) -> None:
        path = f"{staged}/{link.name}"
        if "/" in link.name and durable.above(path) not in self.unsynced:
            self._make_staged(durable.above(path))
        descriptor = self.create(path)
        try:
            durable.write(descriptor, link.content, link.at)
        finally:
            os.close(descriptor)

    def _keep(self, link: BulkLink) -> None:
        """See that a link file which was there before is right."""
        found = self.places.links.read_link(link.path)
        dated = link.keeps or link.at is None or (found is not None and found.at == link.at)
        if found is None or found.content != link.content or not dated:
            undo.write(self.places.links, link.path, link.content, link.at)
        elif not self.places.settled:
            self.unsynced[durable.above(f"{self.places.names}/{link.path}")] = None

    def _prefix(self, digest: Digest) -> str:
        return f"{self.places.blobs}/{digest.algorithm}/{digest.hex[:2]}"

    def _rename(self, staged: str, target: str, names: Sequence[str]) -> None:
        """Rename a staged folder, or the files *names* in it if there is such a folder already."""
        self.unsynced[durable.above(target)] = None
        try:
            _rename(staged, target)
        except OSError as error:
            if error.errno not in durable.TAKEN:
                raise
            for name in names:
                _rename(f"{staged}/{name}", f"{target}/{name}")
                self.unsynced[durable.above(f"{target}/{name}")] = None


def _rename(path: str, target: str) -> None:
    """Rename a file or folder; create the folder above it if others have removed that as empty."""
    try:
        os.rename(path, target)
    except FileNotFoundError:
        if not os.path.lexists(path):
            raise
        durable.move(path, target)
