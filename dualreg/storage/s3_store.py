"""S3Store: a bucket of an object store, in the layout of the reference registry (distribution).

    <prefix>docker/registry/v2/blobs/<algorithm>/<ab>/<abcd…>/data   published blobs
    <prefix>docker/registry/v2/repositories/…                        link files (see ``links``)
    <prefix>uploads/<upload id>/<segment>                            staged bytes of an upload
    <prefix>corrupt/…                                                what was set aside as damaged

An object cannot grow. So an upload consists of segments: each append writes new ones while bytes arrive, and
publishing joins them where they are. Which segments count, in which order, is the layout of the upload. It is
kept with the row of the upload, since no list of a bucket says which of them a late writer has added.
"""

import logging
import secrets
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC
from functools import cached_property
from io import BytesIO
from itertools import chain, groupby, islice
from threading import Lock
from typing import BinaryIO, Self, cast

from cachetools import TTLCache

from dualreg.errors import BlobMissing, DigestInvalid, UploadUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.storage.base import StagedUpload, StoredBlob, read_chunks
from dualreg.storage.object_reader import ObjectReader
from dualreg.storage.s3 import PART, PARTS_LIMIT, Bucket, Range
from dualreg.storage.s3_layouts import Layout, Layouts, first_of, length_of, may_be_followed
from dualreg.storage.s3_links import CORRUPT, TREE, UPLOADS, S3Links

_log = logging.getLogger(__name__)
_BLOBS = f"{TREE}blobs/"
#: Blobs of which a process remembers that it has found them, or the URL.
_REMEMBERED = 10_000
#: Uploads whose bytes wait to be deleted; those of further ones are left to the collection of garbage.
_UNCLEANED = 1_000
#: For how many seconds a blob that was found counts as there.
_SEEN = 60
#: For how many seconds a URL is given out again: to sign one takes longer than all else that a request does.
_SIGNED = 60


class S3Store(S3Links):
    """A BlobStore, LinkTree, PrivateFiles, SupportsLook and SupportsRedirect in a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        """Use *bucket*, without a request."""
        super().__init__(bucket)
        self._tag = f"@{bucket.fingerprint}"
        self._layouts = Layouts()
        self._seen: TTLCache[Digest, int] = TTLCache(_REMEMBERED, _SEEN)
        self._urls: TTLCache[Digest, str] = TTLCache(_REMEMBERED, _SIGNED)
        self._documents = dict[UploadId, bytes]()
        self._lock = Lock()
        self._cleaned = deque[Future[None]]()

    @classmethod
    def at(cls, url: str) -> Self:
        """Return the store in the bucket at *url*, as ``Bucket.parse``."""
        return cls(Bucket.parse(url))

    @cached_property
    def _cleaner(self) -> ThreadPoolExecutor:
        """The thread that deletes what is needed no more, for which no request waits."""
        return ThreadPoolExecutor(
            1, thread_name_prefix="s3-cleaner", initializer=self._bucket.client.circuit.exempt
        )

    def open(self, digest: Digest, *, start: int = 0, length: int | None = None) -> BinaryIO:
        reader = ObjectReader.of(self._bucket, _blob(digest), start, length)
        self._see(digest, None if reader is None else reader.size)
        if reader is None:
            raise BlobMissing(str(digest))
        return cast("BinaryIO", reader)

    def stat(self, digest: Digest) -> StoredBlob | None:
        found = self._bucket.head(_blob(digest))
        self._see(digest, None if found is None else found.size)
        return None if found is None else StoredBlob(digest, found.size, found.modified)

    def look(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        return {found.digest: found.size for found in self._bucket.map(self.stat, digests) if found}

    def has_seen(self, digest: Digest, size: int) -> bool:
        with self._lock:
            return self._seen.get(digest) == size

    def _see(self, digest: Digest, size: int | None) -> None:
        """Note what there is of a blob now; None: nothing."""
        with self._lock:
            if size is None:
                self._seen.pop(digest, None)
            else:
                self._seen[digest] = size

    def url(self, digest: Digest) -> str:
        with self._lock:
            known = self._urls.get(digest)
        if known is None:
            known = self._bucket.url(_blob(digest))
            with self._lock:
                self._urls[digest] = known
        return known

    def is_local(self) -> bool:
        return False

    def read_at_once(self, digest: Digest, size: int, *, start: int, length: int) -> bytes | None:
        """Nothing: it takes a request."""

    def quarantine(self, digest: Digest, reader: BinaryIO) -> bool:
        """See ``BlobStore``; a copy may take long, so the blob is looked at again before it is removed."""
        key, aside = _blob(digest), f"{CORRUPT}{digest.algorithm}-{digest.hex}"
        if (size := self._opened_size(key, reader)) is None:
            return False
        with suppress(FileNotFoundError):
            self._bucket.join(aside, [Range(key, size, size)])
            if self._opened_size(key, reader) is not None:
                self.delete(digest)
                return True
            self._bucket.delete(aside)
        return False

    def _opened_size(self, key: str, reader: BinaryIO) -> int | None:
        """Return the size of an object that *reader* has open; None if there is another one, or none.

        The entity tag of damaged bytes may be that of the sound ones, which were written later.
        """
        found, opened = self._bucket.head(key), getattr(reader, "found", None)
        if found is None or opened is None:
            return None
        is_opened = (found.etag, found.modified) == (opened.etag, opened.modified)
        return found.size if is_opened else None

    def delete(self, digest: Digest) -> None:
        self._see(digest, None)
        self._bucket.delete(_blob(digest))

    def remove(self, digest: Digest, aside: UploadId) -> None:
        """See ``BlobStore``; a copy of a large object would take long, so nothing is kept."""
        del aside
        self.delete(digest)

    def restore(self, aside: UploadId, digest: Digest) -> None:
        pass

    def walk(self) -> Iterator[StoredBlob]:
        for each in self._bucket.walk(_BLOBS):
            algorithm, _, folder = each.key.removeprefix(_BLOBS).removesuffix("/data").partition("/")
            with suppress(DigestInvalid):
                digest = Digest.parse(f"{algorithm}:{folder.rpartition('/')[2]}")
                if each.modified and _blob(digest) == each.key:
                    yield StoredBlob(digest, each.size, each.modified)

    def stage(self, upload: UploadId, content: bytes) -> None:
        """See ``BlobStore``; *content* is in memory until the upload is published or discarded."""
        self._documents[upload] = content
        self._layouts.keep(upload, ())

    def append(self, upload: UploadId, chunks: Iterable[bytes], *, offset: int) -> int:
        if document := self._documents.pop(upload, b""):
            self.append(upload, (document,), offset=0)
        known = self._layouts.find(upload)
        kept = first_of(known or (), offset)
        if kept is None:
            raise BlobMissing(upload)
        pieces: Iterator[bytes] = filter(None, chunks)
        first = next(pieces, None)
        if first is not None:
            kept = self._without_unused(upload, kept, known or ())
            kept, pieces = self._open_end(kept, chain((first,), pieces))
            kept += tuple(self._write(upload, pieces))
        elif known is None:
            kept = (self._write_one(upload, ()),)
        self._layouts.keep(upload, kept)
        return length_of(kept)

    def _without_unused(self, upload: UploadId, kept: Layout, known: Layout) -> Layout:
        """Leave out, and delete later, what had no bytes of the upload before its last append.

        What that has written again stays once more, for the case that a power cut takes its row back.
        """
        unused = tuple(each for each in known if not each.length)[:-1]
        if unused:
            self._clean_later(upload, unused)
        return tuple(each for each in kept if each not in unused)

    def _open_end(self, kept: Layout, pieces: Iterable[bytes]) -> tuple[Layout, Iterator[bytes]]:
        """Let *pieces* begin with the last range if that is too short for another one to follow it."""
        last = next((each for each in reversed(kept) if each.length), None)
        if last is None or may_be_followed(last.length, length_of(kept)):
            return kept, iter(pieces)
        unused = tuple(each._replace(length=0) if each is last else each for each in kept)
        short = cast("BinaryIO", ObjectReader(self._bucket, (last,)))
        return unused, chain(read_chunks(short), pieces)

    def _write(self, upload: UploadId, pieces: Iterable[bytes]) -> Iterator[Range]:
        """Write segments, and yield what they are as they are written."""
        parts = _parts(pieces)
        for first in parts:
            yield self._write_one(upload, chain((first,), islice(parts, PARTS_LIMIT - 1)))

    def _write_one(self, upload: UploadId, parts: Iterable[bytes]) -> Range:
        key = f"{_folder(upload)}{secrets.token_hex(6)}"
        size = self._bucket.write(key, parts)
        return Range(key, size, size)

    def layout(self, upload: UploadId) -> str:
        ranges = self._layouts.find(upload) or ()
        entries = [f"{each.key.rpartition('/')[2]}:{each.length}:{each.size}" for each in ranges]
        return " ".join([self._tag, *entries]) if entries else ""

    def adopt(self, upload: UploadId, layout: str) -> None:
        """See ``BlobStore``; others may reach the same bucket by another address.

        An upload without a layout has no bytes that count, so that to discard it takes no list.
        """
        if not layout and self._layouts.find(upload) is None:
            self._layouts.forget(upload)
        tags = [each for each in layout.split() if each.startswith("@")]  # former versions wrote none
        entries = (each.split(":") for each in layout.split() if each not in tags)
        ranges = (Range(_folder(upload) + name, int(length), int(size)) for name, length, size in entries)
        if layout and {_place(each) for each in tags} <= {_place(self._tag)}:
            self._layouts.keep(upload, tuple(ranges))

    def reopen(self, upload: UploadId) -> BinaryIO:
        if upload in self._documents:
            return BytesIO(self._documents[upload])
        ranges = self._layouts.find(upload)
        if ranges is None:
            raise BlobMissing(upload)
        return cast("BinaryIO", ObjectReader(self._bucket, ranges))

    def prepare(self, upload: UploadId, digest: Digest) -> Callable[[], None]:
        ranges = self._layouts.find(upload)
        if ranges is None:
            raise BlobMissing(upload)
        try:
            if upload in self._documents:
                self._bucket.put(_blob(digest), self._documents[upload])
            else:
                self._bucket.join(_blob(digest), ranges)
        except FileNotFoundError as error:
            raise BlobMissing(upload) from error
        self._layouts.prepare(upload, digest)
        return lambda: None

    def publish(self, upload: UploadId, digest: Digest) -> None:
        ranges = self._layouts.find(upload)
        is_prepared = ranges is None or self._layouts.is_prepared(upload, digest)
        found = self.stat(digest) if is_prepared else None
        if ranges is None and found is None:
            raise BlobMissing(str(digest))
        size = len(self._documents.get(upload, b"")) or length_of(ranges or ())
        if ranges is not None and (found is None or found.size != size):
            self.prepare(upload, digest)
        self.discard(upload)

    def discard(self, upload: UploadId) -> None:
        if self._layouts.has_forgotten(upload):
            return
        ranges = self._layouts.forget(upload)
        if self._documents.pop(upload, None) is not None:
            return  # nothing of it was written
        self._clean_later(upload, ranges)

    def _clean_later(self, upload: UploadId, ranges: Layout | None) -> None:
        """Have bytes of an upload deleted, without waiting for it; None: whatever there is."""
        with self._lock:
            while self._cleaned and self._cleaned[0].done():
                self._cleaned.popleft()
            if len(self._cleaned) < _UNCLEANED:
                self._cleaned.append(self._cleaner.submit(self._clean, upload, ranges))

    def _clean(self, upload: UploadId, ranges: Layout | None) -> None:
        """Delete the bytes of an upload; None: whatever there is."""
        try:
            if ranges is not None:
                self._bucket.delete(*(each.key for each in ranges))
                return
            self._bucket.delete(*(each.key for each in self._bucket.walk(_folder(upload))))
            for key, name, _ in self._bucket.unfinished(_folder(upload)):
                self._bucket.abort(key, name)
        except OSError as error:
            _log.warning("cannot delete the bytes of upload %s, which are collected later: %s", upload, error)

    def staged(self) -> Iterator[StagedUpload]:
        self.flush()
        written = ((each.key, each.modified) for each in self._bucket.walk(UPLOADS))
        begun = ((key, at) for key, _, at in self._bucket.unfinished(UPLOADS))
        for entries in (written, begun):
            for name, group in groupby(entries, key=lambda each: each[0].split("/")[1]):
                with suppress(UploadUnknown):
                    times = [at for _, at in group if at]
                    yield StagedUpload(UploadId.parse(name), max(times).astimezone(UTC))

    def flush(self) -> None:
        """Wait until all is deleted that is needed no more."""
        with self._lock:
            unfinished = [*self._cleaned]
        wait(unfinished)

    def close(self) -> None:
        """Delete what is needed no more, and close all connections. The store can be used again."""
        self.flush()
        if cleaner := self.__dict__.pop("_cleaner", None):
            cleaner.shutdown()
        self._bucket.close()

    def write_private(self, name: str, content: bytes) -> None:
        self._bucket.put(name, content)

    def read_private(self, name: str) -> bytes | None:
        fetched = self._bucket.fetch(name)
        return None if fetched is None else fetched[1]


def _blob(digest: Digest) -> str:
    return f"{_BLOBS}{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"


def _place(tag: str) -> str:
    """Return what the tags of a bucket have in common, by whichever address it is reached."""
    return tag.partition(".")[0]


def _folder(upload: UploadId) -> str:
    return f"{UPLOADS}{upload}/"


def _parts(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of *pieces* in parts of PART bytes, and a last one of what is left."""
    gathered, size = list[bytes](), 0
    for piece in pieces:
        view = memoryview(piece)
        while size + len(view) >= PART:
            yield b"".join((*gathered, view[: PART - size]))
            view, gathered, size = view[PART - size :], [], 0
        gathered.append(bytes(view))
        size += len(view)
    if size:
        yield b"".join(gathered)
