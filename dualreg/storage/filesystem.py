"""FilesystemStore: files in the reference registry's own tree, written to survive a power cut.

    <root>/docker/registry/v2/blobs/<algorithm>/<ab>/<abcd…>/data    published blobs, mode 0444
    <root>/docker/registry/v2/repositories/…                         link files (see ``links``)
    <root>/uploads/<upload id>                                       staged bytes, one file an upload

Everything lies on one file system, so that publishing is a rename. The order is: write, fsync the file,
rename, fsync the folder. An answer given after that survives a power cut.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from dualreg.errors import BlobMissing, DigestInvalid, UploadUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import UploadId
from dualreg.storage import durable
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
            durable.sync(path.parent)
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
        descriptor = durable.create(path) if new else os.open(path, os.O_RDWR)
        try:
            if new:
                durable.sync(self._uploads)
            held = os.fstat(descriptor).st_size
            if held < offset:
                raise BlobMissing(upload)
            if held > offset:
                os.ftruncate(descriptor, offset)
            length = os.lseek(descriptor, offset, os.SEEK_SET)
            for chunk in chunks:
                durable.write(descriptor, chunk)
                length += len(chunk)
            if held > offset or length > offset:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return length

    def adopt(self, upload: UploadId, path: Path, *, hard: bool) -> bool:
        """See Adopt."""
        staged = self._uploads / upload
        durable.make_folder(self._uploads)
        if hard:
            durable.link(path, staged)
            return True
        descriptor = durable.create(staged)
        try:
            with path.open("rb") as source:
                fcntl.ioctl(descriptor, _FICLONE, source.fileno())
            os.fsync(descriptor)
        except OSError:
            staged.unlink()
            return False
        finally:
            os.close(descriptor)
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
        durable.make_folder(path.parent.parent)
        path.parent.mkdir(exist_ok=True)  # durable below, once, with what is in it
        if staged.stat().st_nlink == 1:  # a file that was adopted keeps the mode that its owner gave it
            staged.chmod(0o444)
        staged.rename(path)
        durable.sync(path.parent)
        durable.sync(path.parent.parent)

    def discard(self, upload: UploadId) -> None:
        """See BlobStore."""
        (self._uploads / upload).unlink(missing_ok=True)

    def staged(self) -> Iterator[StagedUpload]:
        """See BlobStore."""
        for path in self._uploads.glob("*-*-*-*-*"):
            with suppress(FileNotFoundError, UploadUnknown):
                upload = UploadId.parse(path.name)
                found = path.stat()  # what was adopted is as old as it was elsewhere, but new here
                touched = max(found.st_mtime, found.st_ctime)
                yield StagedUpload(upload, datetime.fromtimestamp(touched, UTC))

    def internal_path(self, digest: Digest) -> str:
        """See Offload."""
        return f"{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"

    def write_link(self, path: str, content: bytes) -> None:
        """See LinkTree. Until it is whole it lies among the uploads, so that a crash leaves nothing here."""
        target, fresh = self._names / path, self._uploads / UploadId.new()
        descriptor = durable.create(fresh)
        try:
            durable.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        durable.move(fresh, target)
        durable.sync(target.parent)

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
            durable.sync(target.parent)
        self._prune(target)

    def remove_links(self, folder: str) -> None:
        """See LinkTree."""
        target = self._names / folder
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            durable.sync(target.parent)
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
