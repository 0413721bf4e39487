"""FilesystemStore: files in the reference registry's own tree, written to survive a power cut.

    <root>/docker/registry/v2/blobs/<algorithm>/<ab>/<abcd…>/data    published blobs, mode 0444
    <root>/docker/registry/v2/repositories/…                         link files (see ``links``)
    <root>/uploads/<upload id>                                       staged bytes, one file an upload

Everything lies on one file system, so that publishing is a rename. The order is: write, fsync the file,
rename, fsync the folder. An answer given after that survives a power cut.
"""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from dualreg.errors import DigestInvalid, UploadUnknown
from dualreg.faults import BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.storage.base import StagedUpload, StoredBlob

#: Where the reference registry keeps everything below its root.
REGISTRY = Path("docker/registry/v2")
#: Linux's request to let two files share their blocks.  Source: ``linux/fs.h``.
_FICLONE = 0x40049409


class FilesystemStore:
    """A BlobStore, LinkTree, Offload and Adopt over one folder."""

    def __init__(self, root: Path) -> None:
        """Use *root*; it, and what is missing below, is made when first written to."""
        self._uploads = root / "uploads"
        self._blobs = root / REGISTRY / "blobs"
        self._names = root / REGISTRY / "repositories"

    def open(self, digest: Digest, *, start: int = 0) -> BinaryIO:
        """See BlobStore. The reader is a real, unbuffered file: servers can hand it to sendfile."""
        try:
            reader = self.path(digest).open("rb", buffering=0)
        except FileNotFoundError as error:
            raise BlobMissing(str(digest)) from error
        reader.seek(start)
        return reader

    def delete(self, digest: Digest) -> None:
        """See BlobStore."""
        path = self.path(digest)
        with suppress(FileNotFoundError):
            path.unlink()
            _sync(path.parent)
        with suppress(OSError):
            path.parent.rmdir()

    def walk(self) -> Iterator[StoredBlob]:
        """See BlobStore. Files that are no blobs are passed over."""
        for path in self._blobs.glob("*/*/*/data"):
            with suppress(FileNotFoundError, DigestInvalid):
                digest = Digest.parse(f"{path.parts[-4]}:{path.parts[-2]}")
                yield StoredBlob(digest, path.stat().st_size)

    def append(self, upload: UploadId, chunks: Iterable[bytes], *, offset: int) -> int:
        """See BlobStore."""
        path = self._uploads / upload
        new = not path.exists()
        if new and offset:
            raise BlobMissing(upload)
        descriptor = _create(path) if new else os.open(path, os.O_RDWR)
        try:
            if new:
                _sync(self._uploads)
            held = os.fstat(descriptor).st_size
            if held < offset:
                raise BlobMissing(upload)
            if held > offset:
                os.ftruncate(descriptor, offset)
            length = os.lseek(descriptor, offset, os.SEEK_SET)
            for chunk in chunks:
                _write(descriptor, chunk)
                length += len(chunk)
            if held > offset or length > offset:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return length

    def adopt(self, upload: UploadId, path: Path, *, hard: bool) -> bool:
        """See Adopt."""
        staged = self._uploads / upload
        _make_folder(self._uploads)
        if hard:
            _link(path, staged)
            _sync(self._uploads)
            return True
        descriptor = _create(staged)
        try:
            with path.open("rb") as source:
                fcntl.ioctl(descriptor, _FICLONE, source.fileno())
            os.fsync(descriptor)
        except OSError:
            staged.unlink()
            return False
        finally:
            os.close(descriptor)
        _sync(self._uploads)
        return True

    def path(self, digest: Digest) -> Path:
        """See Adopt."""
        return self._blobs / self.internal_path(digest)

    def keeps(self, path: Path, digest: Digest) -> bool:
        """See Adopt."""
        return path.resolve() == self.path(digest).resolve()

    def reopen(self, upload: UploadId) -> BinaryIO:
        """See BlobStore."""
        try:
            return (self._uploads / upload).open("rb", buffering=0)
        except FileNotFoundError as error:
            raise BlobMissing(upload) from error

    def publish(self, upload: UploadId, digest: Digest) -> None:
        """See BlobStore."""
        staged, path = self._uploads / upload, self.path(digest)
        if not staged.exists():
            if not path.exists():
                raise BlobMissing(str(digest))
            return
        _make_folder(path.parent)
        if staged.stat().st_nlink == 1:  # a file that was adopted keeps the mode that its owner gave it
            staged.chmod(0o444)
        staged.rename(path)
        _sync(path.parent)
        _sync(path.parent.parent)  # another process may have made the folder, and not have synced it yet

    def discard(self, upload: UploadId) -> None:
        """See BlobStore."""
        (self._uploads / upload).unlink(missing_ok=True)

    def staged(self) -> Iterator[StagedUpload]:
        """See BlobStore."""
        for path in self._uploads.glob("*-*-*-*-*"):
            with suppress(FileNotFoundError, UploadUnknown):
                upload = UploadId.parse(path.name)
                yield StagedUpload(upload, datetime.fromtimestamp(path.stat().st_mtime, UTC))

    def internal_path(self, digest: Digest) -> str:
        """See Offload."""
        return f"{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"

    def write_link(self, path: str, content: bytes) -> None:
        """See LinkTree."""
        target = self._names / path
        fresh = target.with_name(f".{target.name}.{UploadId.new()}")
        descriptor = _create(fresh)
        try:
            _write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.rename(target)
        _sync(target.parent)

    def read_link(self, path: str) -> bytes | None:
        """Return what is in a link file; None if there is none."""
        try:
            return (self._names / path).read_bytes()
        except FileNotFoundError:
            return None

    def remove_link(self, path: str) -> None:
        """See LinkTree. Folders that become empty go too: the reference registry would list them as names."""
        target = self._names / path
        with suppress(FileNotFoundError):
            target.unlink()
            _sync(target.parent)
        self._prune(target)

    def remove_links(self, folder: str) -> None:
        """See LinkTree."""
        target = self._names / folder
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            _sync(target.parent)
            self._prune(target)

    def walk_links(self) -> Iterator[tuple[str, bytes]]:
        """See LinkTree."""
        for path in sorted(self._names.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self._names).as_posix(), path.read_bytes()

    def _prune(self, path: Path) -> None:
        """Remove the folders above *path* that have become empty."""
        with suppress(OSError):
            for folder in path.relative_to(self._names).parents[:-1]:
                (self._names / folder).rmdir()


def _create(path: Path) -> int:
    """Open a new file; make its folder as often as somebody who found it empty removes it again."""
    while True:
        _make_folder(path.parent)
        with suppress(FileNotFoundError):
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)


def _link(path: Path, staged: Path) -> None:
    """Give the file at *path*, or what links there lead to, another name: a link would say nothing here."""
    os.link(os.path.realpath(path, strict=True), staged)
    if not stat.S_ISREG(staged.lstat().st_mode):
        staged.unlink()
        raise OSError(errno.EINVAL, "it is no file", str(path))


def _write(descriptor: int, data: bytes) -> None:
    """Write all of *data*; a full disk shows as a short write first, as an error on the next."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _make_folder(folder: Path) -> None:
    """Make *folder* and its parents, each durable in its own parent before anything is put into it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileNotFoundError):  # the parent was removed as empty: whoever needs the folder tries again
        folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Make what was added to, renamed in or removed from *folder* durable."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # somebody else emptied and removed it meanwhile: nothing left to keep
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
