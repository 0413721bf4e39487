"""MovingStore: two stores that are served as one, while content moves from one to the other.

What is written goes to the first one. What is read comes from it, or else from the second one. What is
removed is removed from both, so that a copy of the second one does not bring it back. An upload stays in the
store where it began, until it becomes a blob of the first one.

Processes whose first and second stores are swapped serve the same, so that instances can be restarted one
after the other.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from cachetools import LRUCache

from dualreg.errors import BlobMissing
from dualreg.image.digest import Digest, Hasher
from dualreg.image.names import UploadId
from dualreg.storage import Store
from dualreg.storage.base import (
    StagedUpload,
    StoredBlob,
    StoreUnavailable,
    SupportsAccelRedirect,
    SupportsRedirect,
    keeps,
    merged,
    read_chunks,
    sizes_of,
    tee,
)
from dualreg.storage.link_tree import FolderLinks, LinkFile, StagedLink
from dualreg.storage.staging import staging

#: Uploads of which a process remembers where they are.
_REMEMBERED = 10_000


class _MovingLinks:
    """A LinkTree and PrivateFiles in two stores."""

    def __init__(self, first: Store, second: Store) -> None:
        """Write to *first*, and read from both."""
        self._first, self._second = first, second
        self._both = first, second

    @property
    def parts(self) -> tuple[Store, Store]:
        """The store that is written to, and the other one."""
        return self._both

    def read_link(self, path: str) -> LinkFile | None:
        return self._first.read_link(path) or self._second.read_link(path)

    def read_links(self, paths: Sequence[str]) -> Sequence[LinkFile | None]:
        found = dict(zip(paths, self._first.read_links(paths), strict=True))
        absent = [path for path, file in found.items() if file is None]
        found.update(zip(absent, self._second.read_links(absent), strict=True))
        return [found[path] for path in paths]

    def list_links(self, folder: str) -> Sequence[str]:
        return sorted({*self._first.list_links(folder), *self._second.list_links(folder)})

    def write_link(self, path: str, content: bytes, at: datetime | None = None) -> None:
        self._first.write_link(path, content, at)

    def stage_links(self, links: Sequence[StagedLink], waits: Sequence[Callable[[], None]] = ()) -> None:
        self._first.stage_links(links, waits)

    def place_links(self, links: Sequence[StagedLink]) -> None:
        self._first.place_links(links)

    def remove_link(self, *paths: str) -> None:
        for each in self._both:
            each.remove_link(*paths)

    def quarantine_link(self, path: str) -> None:
        for each in self._both:
            each.quarantine_link(path)

    def set_aside(self, aside: UploadId, *folders: FolderLinks) -> None:
        for each in self._both:
            each.set_aside(aside, *folders)

    def bring_back(self, aside: UploadId, *folders: FolderLinks) -> None:
        for each in self._both:
            each.bring_back(aside, *folders)

    def drop(self, aside: UploadId) -> None:
        for each in self._both:
            each.drop(aside)

    def link_paths(self) -> Iterator[str]:
        return merged(*(each.link_paths() for each in self._both), key=str)

    def walk_links(self) -> Iterator[tuple[str, bytes]]:
        return merged(*(each.walk_links() for each in self._both), key=lambda file: file[0])

    def write_private(self, name: str, content: bytes) -> None:
        self._first.write_private(name, content)

    def read_private(self, name: str) -> bytes | None:
        found = self._first.read_private(name)
        return self._second.read_private(name) if found is None else found


class MovingStore(_MovingLinks):
    """A Store, OwnsFiles, SupportsAccelRedirect, SupportsLook and SupportsRedirect in two stores."""

    def __init__(self, first: Store, second: Store) -> None:
        """Write to *first*, and read from both."""
        super().__init__(first, second)
        self._homes: LRUCache[UploadId, Store] = LRUCache(_REMEMBERED)
        self._carried: LRUCache[UploadId, Digest] = LRUCache(_REMEMBERED)
        self._lock = Lock()

    def open(self, digest: Digest, *, start: int = 0, length: int | None = None) -> BinaryIO:
        """See ``BlobStore``; what the second store has is served while the first one does not answer."""
        try:
            return self._first.open(digest, start=start, length=length)
        except BlobMissing:
            return self._second.open(digest, start=start, length=length)
        except StoreUnavailable:
            with suppress(BlobMissing):
                return self._second.open(digest, start=start, length=length)
            raise

    def stat(self, digest: Digest) -> StoredBlob | None:
        try:
            found = self._first.stat(digest)
        except StoreUnavailable:
            if found := self._second.stat(digest):
                return found
            raise
        return found or self._second.stat(digest)

    def look(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """See ``SupportsLook``; the second store is asked for what the first one does not have."""
        try:
            found = sizes_of(self._first, digests)
        except StoreUnavailable:
            found = sizes_of(self._second, digests)
            if len(found) < len(digests):
                raise
            return found
        absent = [digest for digest in digests if digest not in found]
        return {**found, **sizes_of(self._second, absent)}

    def has_seen(self, digest: Digest, size: int) -> bool:
        return any(each.has_seen(digest, size) for each in self._both)

    def is_local(self) -> bool:
        return all(each.is_local() for each in self._both)

    def read_at_once(self, digest: Digest, size: int, *, start: int, length: int) -> bytes | None:
        found = self._first.read_at_once(digest, size, start=start, length=length)
        if found is not None:
            return found
        return self._second.read_at_once(digest, size, start=start, length=length)

    def owns_file(self, path: Path, digest: Digest) -> bool:
        """See ``OwnsFiles``: what is imported from one of the stores is there already, and is not deleted."""
        return any(keeps(each, path, digest) for each in self._both)

    def internal_path(self, digest: Digest) -> str | None:
        first = self._first
        if isinstance(first, SupportsAccelRedirect) and self._first.stat(digest):
            return first.internal_path(digest)
        return None

    def url(self, digest: Digest) -> str | None:
        """See ``SupportsRedirect``; it takes a look into the first store, which may fail as in ``open``."""
        try:
            store = self._first if self._first.stat(digest) else self._second
        except StoreUnavailable:
            if self._second.stat(digest) is None:
                raise
            store = self._second
        return store.url(digest) if isinstance(store, SupportsRedirect) else None

    def quarantine(self, digest: Digest, reader: BinaryIO) -> bool:
        """See ``BlobStore``; a file that was linked from one store to the other is damaged in both."""
        found = [each.quarantine(digest, reader) for each in self._both]
        return any(found)

    def delete(self, digest: Digest) -> None:
        for each in self._both:
            each.delete(digest)

    def remove(self, digest: Digest, aside: UploadId) -> None:
        for each in self._both:
            each.remove(digest, aside)

    def restore(self, aside: UploadId, digest: Digest) -> None:
        for each in self._both:
            each.restore(aside, digest)

    def walk(self) -> Iterator[StoredBlob]:
        return merged(*(each.walk() for each in self._both), key=lambda blob: str(blob.digest))

    def stage(self, upload: UploadId, content: bytes) -> None:
        self._first.stage(upload, content)
        self._remember(upload, self._first)

    def append(self, upload: UploadId, chunks: Iterable[bytes], *, offset: int) -> int:
        home = self._home(upload)
        self._forget(upload)
        length = home.append(upload, chunks, offset=offset)
        self._remember(upload, home)
        return length

    def layout(self, upload: UploadId) -> str:
        return self._home(upload).layout(upload)

    def adopt(self, upload: UploadId, layout: str) -> None:
        """See ``BlobStore``; it is in the store whose layout this is, wherever this process had it before."""
        for each in self._both:
            each.adopt(upload, layout)
        for each in reversed(self._both):
            if each.layout(upload) == layout and _has(each, upload):
                self._remember(upload, each)

    def reopen(self, upload: UploadId) -> BinaryIO:
        return self._home(upload).reopen(upload)

    def prepare(self, upload: UploadId, digest: Digest) -> Callable[[], None]:
        if self._home(upload) is self._first:
            return self._first.prepare(upload, digest)
        self._carry(upload, digest)
        return lambda: None

    def publish(self, upload: UploadId, digest: Digest) -> None:
        home = self._home(upload)
        if home is self._second and _has(home, upload):
            if self._carried.get(upload) != digest or self._first.stat(digest) is None:
                self._carry(upload, digest)
            self.discard(upload)
            return
        try:
            self._first.publish(upload, digest)
        except BlobMissing:
            if self._second.stat(digest) is None:
                raise

    def discard(self, upload: UploadId) -> None:
        self._forget(upload)
        with self._lock:
            home = self._homes.get(upload)
        for each in self._both if home is None else (home,):
            each.discard(upload)

    def staged(self) -> Iterator[StagedUpload]:
        return chain.from_iterable(each.staged() for each in self._both)

    def _home(self, upload: UploadId) -> Store:
        """Return the store that has the bytes of an upload; the first one if neither has any."""
        with self._lock:
            known = self._homes.get(upload)
        if known is not None:
            return known
        for each in self._both:
            if _has(each, upload):
                self._remember(upload, each)
                return each
        return self._first

    def _remember(self, upload: UploadId, home: Store) -> None:
        with self._lock:
            self._homes[upload] = home

    def _forget(self, upload: UploadId) -> None:
        """Know no blob that was made of the bytes of an upload."""
        with self._lock:
            self._carried.pop(upload, None)

    def _carry(self, upload: UploadId, digest: Digest) -> None:
        """Make an upload of the second store a blob of the first one.

        Raises:
            BlobMissing: there is no such upload, or its bytes are not those that the caller has verified.
        """
        hasher = Hasher(digest.algorithm)
        with self._second.reopen(upload) as reader, staging(self._first) as staged:
            staged.write(tee(read_chunks(reader), hasher.update))
            if hasher.digest() != digest:
                raise BlobMissing(upload)
            staged.publish(digest)
        with self._lock:
            self._carried[upload] = digest


def _has(store: Store, upload: UploadId) -> bool:
    try:
        store.reopen(upload).close()
    except BlobMissing:
        return False
    return True
