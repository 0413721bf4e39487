"""FilesystemStore: files in the layout of the reference registry (distribution), safe against power cuts.

    <root>/docker/registry/v2/blobs/<algorithm>/<ab>/<abcd…>/data    published blobs, mode 0444
    <root>/docker/registry/v2/repositories/…                         link files (see ``links``)
    <root>/uploads/<upload id>                                       staged bytes, of each upload, mode 0600
    <root>/corrupt/<algorithm>-<hex>                                 damaged blobs that were set aside
    <root>/corrupt/repositories/…                                    link files that were set aside

All of it must be on one file system, so that publishing is a rename. The order is: write, fsync the file,
rename, fsync the folder. What a method did when it returns survives a power cut.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from io import UnsupportedOperation
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from dualreg.errors import BlobMissing, DigestInvalid, UploadUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.mountinfo import is_local
from dualreg.ownership import create_folder, is_durable, make_folders
from dualreg.storage import durable, writeback
from dualreg.storage.base import CHUNK_SIZE, StagedUpload, StoredBlob
from dualreg.storage.bulk import Places
from dualreg.storage.cached import read_cached
from dualreg.storage.link_folder import REGISTRY, LinkFolder
from dualreg.storage.writeback import WriteBehind

#: Mode of bytes that nobody has vouched for yet.
_STAGED = 0o600
#: Mode of blobs, which never change.
_PUBLISHED = 0o444


class FilesystemStore(LinkFolder):
    """A BlobStore, LinkTree, SupportsAccelRedirect, SupportsBulk and FileBacked in one folder."""

    def __init__(self, root: Path) -> None:
        """Use the folder *root*, which is created when it is first written to, for owner and group."""
        super().__init__(root)
        self._blobs = root / REGISTRY / "blobs"
        self._blob_folder = f"{self._blobs}"
        self._unsynced = set[UploadId]()  # what ``stage`` has written

    @classmethod
    def at(cls, url: str) -> Self:
        """Return the store in the folder ``file:///PATH``."""
        return cls(Path(unquote(urlsplit(url).path)))

    def places(self) -> Places:
        return Places(self._uploads, self._blobs, self._names, self)

    def open(self, digest: Digest, *, start: int = 0, length: int | None = None) -> BinaryIO:
        del length
        try:
            reader = self.path(digest).open("rb", buffering=0)
        except FileNotFoundError as error:
            raise BlobMissing(str(digest)) from error
        reader.seek(start)
        return reader

    def stat(self, digest: Digest) -> StoredBlob | None:
        found = _look(self._readable(digest))
        return found and StoredBlob(digest, found.st_size, durable.instant(found.st_mtime_ns))

    def has_seen(self, digest: Digest, size: int) -> bool:
        del digest, size
        return False

    def is_local(self) -> bool:
        return is_local(self._root)

    def read_at_once(self, digest: Digest, size: int, *, start: int, length: int) -> bytes | None:
        return read_cached(self._readable(digest), size, start=start, length=length)

    def quarantine(self, digest: Digest, reader: BinaryIO) -> bool:
        path, aside = Path(self._file(digest)), self._corrupt / f"{digest.algorithm}-{digest.hex}"
        with suppress(FileNotFoundError, UnsupportedOperation):  # a reader of another store
            opened = os.fstat(reader.fileno())
            make_folders(self._corrupt)
            if os.path.samestat(opened, path.stat()):
                path.rename(aside)
                durable.sync(self._corrupt)
                durable.sync(path.parent)
                return True
        return False

    def delete(self, digest: Digest) -> None:
        path = Path(self._file(digest))
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()

    def remove(self, digest: Digest, aside: UploadId) -> None:
        path = self.path(digest)
        self._make_uploads()
        with suppress(FileNotFoundError):
            path.rename(self._staged_file(aside))
        with suppress(OSError):
            path.parent.rmdir()

    def restore(self, aside: UploadId, digest: Digest) -> None:
        path = self._file(digest)
        if os.path.lexists(self._staged_file(aside)) and not os.path.lexists(path):
            durable.move(self._staged_file(aside), path)
            with suppress(FileNotFoundError):
                self._naming(path)()
        self.discard(aside)

    def walk(self) -> Iterator[StoredBlob]:
        for algorithm in _folders(self._blobs):
            for prefix in _folders(algorithm):
                for folder in _folders(prefix):
                    with suppress(OSError, DigestInvalid):
                        digest = Digest.parse(f"{algorithm.name}:{folder.name}")
                        found = Path(folder.path, "data").stat()
                        yield StoredBlob(digest, found.st_size, durable.instant(found.st_mtime_ns))

    def stage(self, upload: UploadId, content: bytes) -> None:
        self._unsynced.add(upload)
        descriptor = self._create(upload, _PUBLISHED)
        try:
            durable.write(descriptor, content)
            writeback.begin(descriptor)
        finally:
            os.close(descriptor)

    def append(self, upload: UploadId, chunks: Iterable[bytes], *, offset: int) -> int:
        path, pieces = self._staged_file(upload), filter(None, chunks)
        fresh = None if offset else self._begin(upload)
        if fresh is not None:
            return self._write_on(fresh, pieces, 0, self._uploads)
        found = _look(path)
        if found is None or found.st_size < offset:
            raise BlobMissing(upload)
        first = [*islice(pieces, 1)]
        if not first and found.st_size == offset:
            return offset
        self._make_writable(upload, found, offset)
        if found.st_size > offset:
            os.truncate(path, offset)
        return self._write_on(os.open(path, os.O_WRONLY | os.O_APPEND), chain(first, pieces), offset)

    def _begin(self, upload: UploadId) -> int | None:
        """Create the file of an upload, and return its descriptor; None if it exists."""
        try:
            return self._create(upload)
        except FileExistsError:
            return None

    def _write_on(self, descriptor: int, pieces: Iterable[bytes], length: int, *folders: Path) -> int:
        """Add to an upload of *length* bytes, and make it durable with *folders*; return its new length."""
        try:
            behind = WriteBehind(descriptor, length)
            for piece in pieces:
                durable.write(descriptor, piece)
                length += len(piece)
                behind.reach(length)
            durable.sync_all(descriptor, *folders)
        finally:
            os.close(descriptor)
        return length

    def stage_file(self, upload: UploadId, file: BinaryIO, *, hard: bool) -> bool:
        staged = self._uploads / upload
        if hard:
            self._make_uploads()
            durable.link(file.fileno(), staged)
            os.fsync(file.fileno())
            return True
        descriptor = self._create(upload)
        try:
            durable.clone(file.fileno(), descriptor)
            os.fsync(descriptor)
        except OSError:
            staged.unlink()
            return False
        finally:
            os.close(descriptor)
        return True

    def path(self, digest: Digest) -> Path:
        return Path(self._readable(digest))

    def _readable(self, digest: Digest) -> str:
        """Return the file that is read as the blob, whether or not it exists."""
        return self._file(digest)

    def _file(self, digest: Digest) -> str:
        return f"{self._blob_folder}/{_place(digest)}"

    def owns_file(self, path: Path, digest: Digest) -> bool:
        own = self.path(digest)
        return path == own or path.resolve() == own.resolve()

    def layout(self, upload: UploadId) -> str:
        del upload
        return ""

    def adopt(self, upload: UploadId, layout: str) -> None:
        pass

    def reopen(self, upload: UploadId) -> BinaryIO:
        try:
            return open(self._staged_file(upload), "rb", buffering=0)
        except FileNotFoundError as error:
            raise BlobMissing(upload) from error

    def _make_writable(self, upload: UploadId, found: os.stat_result, offset: int) -> None:
        """Give an upload of *offset* bytes a file of its own, if ``prepare`` has made it that of a blob.

        If the blob has been replaced or deleted since then, the file is its own already, but read-only.
        """
        staged = self._staged_file(upload)
        if found.st_nlink <= 1:
            self._settle_bytes(upload, staged, self._uploads)
            os.chmod(staged, _STAGED)
            return
        fresh = UploadId.new()
        try:
            with self.reopen(upload) as source:
                pieces = iter(lambda: source.read(min(CHUNK_SIZE, offset - source.tell())), b"")
                self.append(fresh, pieces, offset=0)
            os.rename(self._staged_file(fresh), staged)
        finally:
            self.discard(fresh)
        durable.sync(self._uploads)

    def prepare(self, upload: UploadId, digest: Digest) -> Callable[[], None]:
        staged, path = self._staged_file(upload), self._file(digest)
        found = _look(staged)
        if found is None:
            raise BlobMissing(upload)
        naming = self._make_blob_folder(path)
        if not self._link(upload, found, path):
            published = _look(path)
            if published is None or not os.path.samestat(found, published):
                return lambda: None  # ``publish`` does all
        return naming.with_files(staged) if upload in self._unsynced else naming

    def _link(self, upload: UploadId, found: os.stat_result, path: str) -> bool:
        """Make *path* a name of an upload, even if it exists.

        Return False if that fails: there are no hard links here, or others came in between.
        """
        staged = self._staged_file(upload)
        try:
            if found.st_nlink == 1:  # a hard link shares its mode with the source
                os.chmod(staged, _PUBLISHED)
            os.link(staged, path)
        except FileExistsError:
            self._settle_bytes(upload, staged)  # what was answered for is replaced by durable bytes
            return _link_over(staged, path, self._staged_file(UploadId.new()))
        except OSError:
            return False
        return True

    def publish(self, upload: UploadId, digest: Digest) -> None:
        staged, path = self._staged_file(upload), self._file(digest)
        found, published = _look(staged), _look(path)
        if found is None:
            if published is None:
                raise BlobMissing(str(digest))
            self._settle_bytes(upload, path)
        elif published and os.path.samestat(found, published):
            self._unsynced.discard(upload)  # what ``prepare`` returned has waited for it
            os.unlink(staged)
        else:
            naming = self._make_blob_folder(path)
            self._settle_bytes(upload, staged)
            if found.st_nlink == 1:
                os.chmod(staged, _PUBLISHED)
            os.rename(staged, path)
            naming()

    def _settle_bytes(self, upload: UploadId, *files: str | Path) -> None:
        """Make *files* durable, which have the bytes of an upload, if ``stage`` has written them."""
        if upload in self._unsynced:
            durable.sync_all(*files)
            self._unsynced.discard(upload)

    def _make_blob_folder(self, path: str) -> durable.Wait:
        """Create the folders of a blob; return what waits until its name is durable, when it has got it."""
        naming = self._naming(path)
        for prefix in naming.new:
            make_folders(durable.above(prefix), durable.SHARED)
            create_folder(prefix, durable.SHARED)
        create_folder(durable.above(path), durable.SHARED)
        return naming

    def _naming(self, path: str) -> durable.Wait:
        """Return what waits until the name of a blob is durable."""
        folder = durable.above(path)
        prefix = durable.above(folder)
        if is_durable(prefix):
            return durable.Wait((folder, prefix))
        return durable.Wait((folder, prefix, durable.above(prefix)), new=(prefix,))

    def discard(self, upload: UploadId) -> None:
        self._unsynced.discard(upload)
        durable.remove(self._staged_file(upload))

    def staged(self) -> Iterator[StagedUpload]:
        for path in self._uploads.glob("*-*-*-*-*"):
            with suppress(FileNotFoundError, UploadUnknown):
                upload = UploadId.parse(path.name)
                found = path.stat()  # a hard link has the old mtime of its source; making it set ctime
                touched = max(found.st_mtime, found.st_ctime)
                yield StagedUpload(upload, datetime.fromtimestamp(touched, UTC))

    def internal_path(self, digest: Digest) -> str | None:
        return _place(digest)

    def write_private(self, name: str, content: bytes) -> None:
        try:
            self._stage(content).rename(self._root / name)
        except FileNotFoundError:  # discarded as a stray by a process whose clock is ahead
            self._stage(content).rename(self._root / name)
        durable.sync(self._root)

    def _stage(self, content: bytes) -> Path:
        """Return a new file with *content*, which is durable."""
        upload = UploadId.new()
        descriptor = self._create(upload)
        try:
            durable.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return self._uploads / upload

    def read_private(self, name: str) -> bytes | None:
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return None

    def _create(self, upload: UploadId, mode: int = _STAGED) -> int:
        """Create the file of an upload, and return its descriptor."""
        self._expect_uploads()
        return durable.create(self._staged_file(upload), mode)

    def _staged_file(self, upload: UploadId) -> str:
        """Return the file of an upload."""
        return f"{self._uploads}/{upload}"


def _place(digest: Digest) -> str:
    """Return where the file of a blob is below the folder of blobs."""
    return f"{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"


def _look(path: str) -> os.stat_result | None:
    """Return what is known of a file; None if there is none."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _link_over(source: str, path: str, fresh: str) -> bool:
    """Make *path*, which exists, a name of *source*, and return whether that succeeded.

    Args:
        fresh: A name for the time in between.
    """
    try:
        os.link(source, fresh)
        os.rename(fresh, path)
    except OSError:
        return False
    finally:
        durable.remove(fresh)  # it stays if *path* is one already
    return True


def _folders(folder: os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
    """Yield the folders in a folder, by name; none if it is absent or cannot be read."""
    with suppress(OSError), os.scandir(folder) as entries:
        yield from sorted((each for each in entries if each.is_dir()), key=attrgetter("name"))
