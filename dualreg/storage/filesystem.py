"""FilesystemStore: files in the layout of the reference registry (distribution), safe against power cuts.

    <root>/docker/registry/v2/blobs/<algorithm>/<ab>/<abcd…>/data    published blobs, mode 0444
    <root>/docker/registry/v2/repositories/…                         link files (see ``links``)
    <root>/uploads/<upload id>                                       staged bytes, of each upload, mode 0600
    <root>/corrupt/<algorithm>-<hex>                                 damaged blobs that were set aside
    <root>/corrupt/repositories/…                                    link files that were set aside

All of it must be on one file system, so that publishing is a rename. The order is: write, fsync the file,
rename, fsync the folder. What a method did when it returns survives a power cut.
"""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

from dualreg.errors import BlobMissing, DigestInvalid, UploadUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.ownership import create_folder, make_folders
from dualreg.storage import durable
from dualreg.storage.base import LinkFile, StagedLink, StagedUpload, StoredBlob
from dualreg.storage.writeback import WriteBehind

#: The folder below its root in which the reference registry keeps everything.
REGISTRY = Path("docker/registry/v2")
#: Mode of bytes that nobody has vouched for yet.
_STAGED = 0o600
#: Linux's ioctl that makes a file a clone of another.  Source: ``linux/fs.h``.
_FICLONE = 0x40049409
#: The resolution of the times of rows; files have nanoseconds.
_ROUNDING = timedelta(microseconds=1)
#: More bytes than any link file has.
_LINK_LIMIT = 1 << 16


class FilesystemStore:
    """A BlobStore, LinkTree, SupportsAccelRedirect and FileBacked in one folder."""

    def __init__(self, root: Path) -> None:
        """Use the folder *root*, which is created when it is first written to, for owner and group."""
        self._root = root
        self._uploads = root / "uploads"
        self._corrupt = root / "corrupt"
        self._blobs = root / REGISTRY / "blobs"
        self._names = root / REGISTRY / "repositories"

    def open(self, digest: Digest, *, start: int = 0) -> BinaryIO:
        try:
            reader = self.path(digest).open("rb", buffering=0)
        except FileNotFoundError as error:
            raise BlobMissing(str(digest)) from error
        reader.seek(start)
        return reader

    def stat(self, digest: Digest) -> StoredBlob | None:
        try:
            found = self.path(digest).stat()
        except FileNotFoundError:
            return None
        return StoredBlob(digest, found.st_size, durable.instant(found.st_mtime_ns))

    def quarantine(self, digest: Digest, reader: BinaryIO) -> bool:
        path, aside = self.path(digest), self._corrupt / f"{digest.algorithm}-{digest.hex}"
        opened = os.fstat(reader.fileno())
        with suppress(FileNotFoundError):
            make_folders(self._corrupt)
            if os.path.samestat(opened, path.stat()):
                path.rename(aside)
                durable.sync(self._corrupt)
                durable.sync(path.parent)
                return True
        return False

    def delete(self, digest: Digest) -> None:
        path = self.path(digest)
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()

    def walk(self) -> Iterator[StoredBlob]:
        for algorithm in _folders(self._blobs):
            for prefix in _folders(algorithm):
                for folder in _folders(prefix):
                    with suppress(OSError, DigestInvalid):
                        digest = Digest.parse(f"{algorithm.name}:{folder.name}")
                        found = Path(folder.path, "data").stat()
                        yield StoredBlob(digest, found.st_size, durable.instant(found.st_mtime_ns))

    def append(self, upload: UploadId, chunks: Iterable[bytes], *, offset: int) -> int:
        path = self._uploads / upload
        new = not path.exists()
        if new and offset:
            raise BlobMissing(upload)
        descriptor = self._create(upload) if new else os.open(path, os.O_RDWR)
        try:
            if new:
                durable.sync(self._uploads)
            size = os.fstat(descriptor).st_size
            if size < offset:
                raise BlobMissing(upload)
            if size > offset:
                os.ftruncate(descriptor, offset)
            length = os.lseek(descriptor, offset, os.SEEK_SET)
            behind = WriteBehind(descriptor, length)
            for chunk in chunks:
                durable.write(descriptor, chunk)
                length += len(chunk)
                behind.reach(length)
            if size > offset or length > offset:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return length

    def stage_file(self, upload: UploadId, file: BinaryIO, *, hard: bool) -> bool:
        staged = self._uploads / upload
        if hard:
            self._make_uploads()
            durable.link(file.fileno(), staged)
            return True
        descriptor = self._create(upload)
        try:
            fcntl.ioctl(descriptor, _FICLONE, file.fileno())
            os.fsync(descriptor)
        except OSError:
            staged.unlink()
            return False
        finally:
            os.close(descriptor)
        return True

    def path(self, digest: Digest) -> Path:
        return self._blobs / self.internal_path(digest)

    def owns_file(self, path: Path, digest: Digest) -> bool:
        own = self.path(digest)
        return path == own or path.resolve() == own.resolve()

    def reopen(self, upload: UploadId) -> BinaryIO:
        try:
            return (self._uploads / upload).open("rb", buffering=0)
        except FileNotFoundError as error:
            raise BlobMissing(upload) from error

    def publish(self, upload: UploadId, digest: Digest) -> None:
        staged, path = self._uploads / upload, self.path(digest)
        if not staged.exists():
            if not path.exists():
                raise BlobMissing(str(digest))
            return
        make_folders(path.parent.parent, durable.SHARED)
        create_folder(path.parent, durable.SHARED)  # made durable below, together with the blob
        if staged.stat().st_nlink == 1:  # a hard link shares its mode with the source
            staged.chmod(0o444)
        staged.rename(path)
        durable.sync(path.parent)
        durable.sync(path.parent.parent)

    def discard(self, upload: UploadId) -> None:
        try:
            (self._uploads / upload).unlink(missing_ok=True)
        except IsADirectoryError:  # link files that were set aside
            shutil.rmtree(self._uploads / upload, ignore_errors=True)

    def staged(self) -> Iterator[StagedUpload]:
        for path in self._uploads.glob("*-*-*-*-*"):
            with suppress(FileNotFoundError, UploadUnknown):
                upload = UploadId.parse(path.name)
                found = path.stat()  # a hard link has the old mtime of its source; making it set ctime
                touched = max(found.st_mtime, found.st_ctime)
                yield StagedUpload(upload, datetime.fromtimestamp(touched, UTC))

    def internal_path(self, digest: Digest) -> str:
        return f"{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"

    def write_link(self, path: str, content: bytes, at: datetime | None = None) -> None:
        durable.sync(self._replace(path, content, at).parent)

    def _replace(self, path: str, content: bytes, at: datetime | None) -> Path:
        """Create or replace a file without syncing its folder, unless it is right; return its place."""
        target, fresh = self._names / path, self._uploads / UploadId.new()
        if not self._holds(path, content, at):
            self._write(fresh, content, at)
            durable.move(fresh, target)
        return target

    def stage_link(self, link: StagedLink) -> None:
        if self._holds(link.path, link.content, link.at):
            return
        fresh = self._uploads / link.upload
        if (self._names / link.folder).exists():
            self._write(fresh, link.content, link.at)
            return
        # A new folder is staged with the file, so that placing it is one rename.
        file = fresh / link.name
        self._write(file, link.content, link.at)
        durable.sync(file.parent)

    def place_links(self, links: Sequence[StagedLink]) -> None:
        changed = {self._place(link).parent for link in links}
        for folder in changed:
            durable.sync(folder)

    def _place(self, link: StagedLink) -> Path:
        """Move a staged file, with its folder if that is new; return what is where it was not before."""
        fresh, target = self._uploads / link.upload, self._names / link.path
        if not fresh.exists():  # the file was right; it may have been replaced since
            return self._replace(link.path, link.content, link.at)
        if fresh.is_dir():
            try:
                durable.move(fresh, self._names / link.folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                fresh /= link.name  # another request has made the folder meanwhile
            else:
                return self._names / link.folder
        durable.move(fresh, target)
        return target

    def _write(self, file: Path, content: bytes, at: datetime | None) -> None:
        """Write a file among the uploads durably; what a crash leaves of it is collected like them."""
        self._make_uploads()
        descriptor = durable.create(file)
        try:
            durable.write(descriptor, content)
            if at:
                os.utime(descriptor, ns=(durable.nanoseconds(at),) * 2)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _holds(self, path: str, content: bytes, at: datetime | None) -> bool:
        """Return whether a file has that content and time, which may have been rounded, or cut to seconds.

        A file that need not be written keeps its time, which may be that of a push to another registry.
        """
        try:
            found = self.read_link(path)
        except OSError:
            return False
        if found is None or found.content != content:
            return False
        return at is None or abs(at - found.at) <= _ROUNDING or at == found.at.replace(microsecond=0)

    def read_link(self, path: str) -> LinkFile | None:
        try:
            descriptor = os.open(f"{self._names}/{path}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            if found.st_size > _LINK_LIMIT:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            return LinkFile(os.read(descriptor, _LINK_LIMIT), durable.instant(found.st_mtime_ns))
        finally:
            os.close(descriptor)

    def list_links(self, folder: str) -> Sequence[str]:
        try:
            with os.scandir(f"{self._names}/{folder}") as entries:
                return sorted(f"{each.name}/" if each.is_dir() else each.name for each in entries)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def remove_link(self, *paths: str) -> None:
        changed = set[Path]()
        for target in map(self._names.joinpath, paths):
            with suppress(FileNotFoundError):
                target.unlink()
                changed.add(target.parent)
            self._prune(target)
        for folder in {*map(_nearest, changed)}:  # once for all that they have lost
            durable.sync(folder)

    def quarantine_link(self, path: str) -> None:
        source, aside = self._names / path, self._corrupt / "repositories" / path
        with suppress(FileNotFoundError):
            durable.move(source, aside)
            durable.sync(aside.parent)
            self._prune(source)
            durable.sync(_nearest(source.parent))

    def set_aside(self, aside: UploadId, *folders: str) -> None:
        self._make_uploads()
        create_folder(self._uploads / aside)
        changed = dict[Path, Path]()  # one of the targets in each folder
        for number, target in enumerate(map(self._names.joinpath, folders)):
            with suppress(FileNotFoundError, NotADirectoryError):
                target.rename(self._uploads / aside / f"{number}")
                changed[target.parent] = target
        for folder, target in changed.items():
            durable.sync(folder)
            self._prune(target)

    def bring_back(self, aside: UploadId, *folders: str) -> None:
        for number, folder in enumerate(folders):
            source, target = self._uploads / aside / f"{number}", self._names / folder
            for file in [*_files(source)]:
                place = target / file.relative_to(source)
                if not place.exists():
                    durable.move(file, place)
                    durable.sync(place.parent)
        self.drop(aside)

    def drop(self, aside: UploadId) -> None:
        self.discard(aside)

    def walk_links(self) -> Iterator[tuple[str, bytes]]:
        for path in _files(self._names):
            if not path.name.startswith("."):
                yield path.relative_to(self._names).as_posix(), path.read_bytes()

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
        self._make_uploads()
        return durable.create(self._uploads / upload, mode)

    def _make_uploads(self) -> None:
        make_folders(self._root)
        make_folders(self._uploads, durable.SHARED)

    def _prune(self, path: Path) -> None:
        """Remove empty folders above *path*: the reference registry would list them as repositories."""
        with suppress(OSError):
            for folder in path.relative_to(self._names).parents[:-1]:
                (self._names / folder).rmdir()


def _nearest(folder: Path) -> Path:
    """Return *folder* or the first folder above it that exists."""
    return next((each for each in (folder, *folder.parents) if each.is_dir()), folder)


def _folders(folder: os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
    """Yield the folders in a folder, by name; none if it is absent or cannot be read."""
    with suppress(OSError), os.scandir(folder) as entries:
        yield from sorted((each for each in entries if each.is_dir()), key=attrgetter("name"))


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below *folder* by path, reading one folder after the other; none if it is absent."""
    with suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                yield from _files(path)
            elif path.is_file():
                yield path
