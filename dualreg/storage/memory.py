"""MemoryStore: a minimal driver in memory, for tests and as an example."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from threading import Lock
from typing import BinaryIO, Self

from dualreg.errors import BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.storage.base import StagedUpload, StoredBlob
from dualreg.storage.link_tree import FolderLinks, LinkFile, StagedLink


class MemoryStore:
    """A BlobStore and LinkTree in the memory of this process."""

    def __init__(self) -> None:
        """Start empty."""
        self._blobs: dict[Digest, bytes] = {}
        self._staged: dict[UploadId, tuple[bytes, datetime]] = {}
        self._links: dict[str, LinkFile] = {}
        self._private: dict[str, bytes] = {}
        self._aside: dict[UploadId, dict[str, LinkFile]] = {}
        self._lock = Lock()

    @classmethod
    def at(cls, url: str) -> Self:
        """Return an empty store; nothing in ``memory:`` is looked at."""
        del url
        return cls()

    def open(self, digest: Digest, *, start: int = 0, length: int | None = None) -> BinaryIO:
        del length
        try:
            reader = io.BytesIO(self._blobs[digest])
        except KeyError as error:
            raise BlobMissing(str(digest)) from error
        reader.seek(start)
        return reader

    def stat(self, digest: Digest) -> StoredBlob | None:
        data = self._blobs.get(digest)
        return None if data is None else StoredBlob(digest, len(data), datetime.now(UTC))

    def has_seen(self, digest: Digest, size: int) -> bool:
        del digest, size
        return False

    def is_local(self) -> bool:
        return True

    def read_at_once(self, digest: Digest, size: int, *, start: int, length: int) -> bytes | None:
        data = self._blobs.get(digest, b"")
        return data[start : start + length] if len(data) == size >= start + length else None

    def quarantine(self, digest: Digest, reader: BinaryIO) -> bool:
        reader.seek(0)
        with self._lock:
            if self._blobs.get(digest) != reader.read():
                return False
            self.delete(digest)
        return True

    def delete(self, digest: Digest) -> None:
        self._blobs.pop(digest, None)

    def remove(self, digest: Digest, aside: UploadId) -> None:
        with self._lock:
            if (data := self._blobs.pop(digest, None)) is not None:
                self._staged[aside] = (data, datetime.now(UTC))

    def restore(self, aside: UploadId, digest: Digest) -> None:
        with self._lock:
            if kept := self._staged.pop(aside, None):
                self._blobs.setdefault(digest, kept[0])

    def walk(self) -> Iterator[StoredBlob]:
        for digest, data in sorted(self._blobs.items(), key=lambda each: str(each[0])):
            yield StoredBlob(digest, len(data), datetime.now(UTC))

    def stage(self, upload: UploadId, content: bytes) -> None:
        self.append(upload, (content,), offset=0)

    def append(self, upload: UploadId, chunks: Iterable[bytes], *, offset: int) -> int:
        held, _ = self._staged.get(upload, (b"", None))
        if len(held) < offset:
            raise BlobMissing(upload)
        data = b"".join((held[:offset], *chunks))
        self._staged[upload] = (data, datetime.now(UTC))
        return len(data)

    def layout(self, upload: UploadId) -> str:
        del upload
        return ""

    def adopt(self, upload: UploadId, layout: str) -> None:
        pass

    def reopen(self, upload: UploadId) -> BinaryIO:
        try:
            return io.BytesIO(self._staged[upload][0])
        except KeyError as error:
            raise BlobMissing(upload) from error

    def prepare(self, upload: UploadId, digest: Digest) -> Callable[[], None]:
        del digest
        if upload not in self._staged:
            raise BlobMissing(upload)
        return lambda: None

    def publish(self, upload: UploadId, digest: Digest) -> None:
        with self._lock:
            staged = self._staged.pop(upload, None)
            if staged is not None:
                self._blobs[digest] = staged[0]
            elif digest not in self._blobs:
                raise BlobMissing(str(digest))

    def discard(self, upload: UploadId) -> None:
        self._staged.pop(upload, None)
        self._aside.pop(upload, None)

    def staged(self) -> Iterator[StagedUpload]:
        for upload, (_, modified_at) in [*self._staged.items()]:
            yield StagedUpload(upload, modified_at)

    def write_link(self, path: str, content: bytes, at: datetime | None = None) -> None:
        found = self._links.get(path)
        if at or found is None or found.content != content:
            self._links[path] = LinkFile(content, at or datetime.now(UTC))

    def read_link(self, path: str) -> LinkFile | None:
        return self._links.get(path)

    def read_links(self, paths: Sequence[str]) -> Sequence[LinkFile | None]:
        return [*map(self.read_link, paths)]

    def list_links(self, folder: str) -> Sequence[str]:
        prefix = f"{folder}/" if folder else ""
        below = (path.removeprefix(prefix) for path in [*self._links] if path.startswith(prefix))
        return sorted(
            {f"{name}/" if deeper else name for name, deeper, _ in (each.partition("/") for each in below)}
        )

    def remove_link(self, *paths: str) -> None:
        for path in paths:
            self._links.pop(path, None)

    def quarantine_link(self, path: str) -> None:
        self._links.pop(path, None)

    def stage_links(self, links: Sequence[StagedLink], waits: Sequence[Callable[[], None]] = ()) -> None:
        for link in links:
            self._staged[link.upload] = (link.content, link.at)
        for wait in waits:
            wait()

    def place_links(self, links: Sequence[StagedLink]) -> None:
        for link in links:
            file, found = LinkFile(*self._staged.pop(link.upload)), self._links.get(link.path)
            if not (link.once and found and found.content == file.content):
                self._links[link.path] = file

    def set_aside(self, aside: UploadId, *folders: FolderLinks) -> None:
        paths = [f"{folder.path}/{file}" for folder in folders for file in folder.files]
        self._aside[aside] = {path: self._links.pop(path) for path in paths if path in self._links}

    def bring_back(self, aside: UploadId, *folders: FolderLinks) -> None:
        del folders
        for path, file in self._aside.pop(aside).items():
            self._links.setdefault(path, file)

    def drop(self, aside: UploadId) -> None:
        self.discard(aside)

    def write_private(self, name: str, content: bytes) -> None:
        self._private[name] = content

    def read_private(self, name: str) -> bytes | None:
        return self._private.get(name)

    def link_paths(self) -> Iterator[str]:
        yield from sorted(self._links)

    def walk_links(self) -> Iterator[tuple[str, bytes]]:
        yield from sorted((path, file.content) for path, file in self._links.items())
