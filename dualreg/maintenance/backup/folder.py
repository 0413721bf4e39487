"""The folder of a backup.

    backup.json                                what is complete (Marker); written last
    backup.lock                                tells the folder from others, and keeps two commands apart
    catalog-<time>.sqlite3                     the catalog at one instant, mode 0600
    docker/registry/v2/blobs/…                 the blobs that it lists, as in a store
    migrations/…                               the journals of migrations

A backup that is updated gets a second catalog. Until the marker names that, the first one and its blobs stay,
so an update that is interrupted leaves the backup as it was before.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from dualreg.image.names import UploadId
from dualreg.ownership import make_folders
from dualreg.storage import durable
from dualreg.storage.base import CHUNK_SIZE
from dualreg.storage.filesystem import FilesystemStore

_MARKER, _LOCK, _JOURNALS = "backup.json", "backup.lock", "migrations"
#: The number of this layout.
_FORMAT = 1


class BackupInvalid(ValueError):
    """A folder is not a backup, or not a complete one, or cannot become one; the message says why."""


@dataclass(frozen=True, slots=True)
class Marker:
    """What a backup contains. The fields are keys of ``backup.json``.

    Attributes:
        at: The instant that the catalog is of, in ISO format.
        catalog: The name of its file.
        sha256: The digest of that file, in hexadecimal.
        blobs, bytes: The number of blobs that it lists, and their size.
        missing: How many of them the registry did not have itself, or were damaged.
    """

    at: str
    catalog: str
    sha256: str
    blobs: int
    bytes: int
    missing: int
    format: int = _FORMAT


@dataclass(frozen=True, slots=True)
class BackupFolder:
    """The files of a backup."""

    path: Path

    @property
    def store(self) -> FilesystemStore:
        """The blobs."""
        return FilesystemStore(self.path)

    @property
    def journals(self) -> Path:
        """The folder of the journals of migrations."""
        return self.path / _JOURNALS

    def require_usable(self) -> None:
        """Raise BackupInvalid unless the folder is a backup, or is empty or absent and can become one."""
        if (self.path / _LOCK).exists() or not self.path.exists():
            return
        if not self.path.is_dir():
            raise BackupInvalid(f"{self.path} is not a directory")
        if any(self.path.iterdir()):
            raise BackupInvalid(f"{self.path} is neither empty nor a backup; choose another directory")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep the folder for the block, which changes it; create it if it is absent.

        Raises:
            BackupInvalid: as ``require_usable``, or another command uses it.
            OSError: it cannot be written.
        """
        self.require_usable()
        make_folders(self.path)
        if not (self.path / _LOCK).exists():
            self.store.write_private(_LOCK, b"")
        with self._locked(fcntl.LOCK_EX):
            yield

    @contextmanager
    def reading(self) -> Iterator[Marker]:
        """Keep the folder as it is for the block; yield what it contains.

        Raises:
            BackupInvalid: it is not a complete backup, or is being written.
            OSError: it cannot be read.
        """
        if not (self.path / _LOCK).exists():
            raise BackupInvalid(f"{self.path} is not a backup")
        with self._locked(fcntl.LOCK_SH):
            marker = self.marker()
            if marker is None:
                raise BackupInvalid(f"the backup in {self.path} is not complete; run `dualreg backup` again")
            yield marker

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with (self.path / _LOCK).open("rb") as file:
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BackupInvalid(f"another command is using the backup in {self.path}") from error
            yield

    def marker(self) -> Marker | None:
        """Return what is complete; None: nothing.

        Raises:
            BackupInvalid: a newer version wrote it, or it is damaged.
        """
        content = self.store.read_private(_MARKER)
        if content is None:
            return None
        try:
            found = Marker(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise BackupInvalid(f"{self.path / _MARKER} is damaged: {error}") from error
        if found.format != _FORMAT:
            raise BackupInvalid(f"a newer version of dualreg made the backup in {self.path}")
        return found

    def new_catalog(self, at: datetime) -> Path:
        """Return the file for a catalog; delete what an interrupted backup has left."""
        marker, store = self.marker(), self.store
        self._delete_catalogs(marker.catalog if marker else "")
        for staged in store.staged():
            store.discard(staged.upload)
        return self.path / f"catalog-{at:%Y%m%dT%H%M%S.%f}.sqlite3"

    def conclude(self, marker: Marker) -> None:
        """Declare a catalog and its blobs complete, durably; delete other catalogs."""
        self.store.write_private(_MARKER, json.dumps(asdict(marker), indent=1).encode())
        self._delete_catalogs(marker.catalog)

    def _delete_catalogs(self, kept: str) -> None:
        for file in self.path.glob("catalog-*.sqlite3*"):
            if file.name != kept:
                file.unlink()

    def copy_catalog(self, marker: Marker, path: Path) -> None:
        """Copy the catalog to a file, for its owner only, in place of what is there.

        Raises:
            BackupInvalid: it is not what it was when the backup was made.
        """
        path.unlink(missing_ok=True)
        delete_log(path)
        copy_file(self.path / marker.catalog, path, mode=0o600)
        if digest_of(path) != marker.sha256:
            path.unlink()
            raise BackupInvalid(f"{self.path / marker.catalog} is damaged; run `dualreg backup` again")


def delete_log(path: Path) -> None:
    """Delete what SQLite would apply to a file that is about to be replaced: the log of an earlier one."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_file(source: Path, target: Path, *, mode: int | None = None) -> None:
    """Copy a file, atomically and durably, with its time and its mode, or another *mode*."""
    found = source.stat()
    temporary = target.with_name(f".{target.name}.{UploadId.new()}")
    try:
        with source.open("rb") as reader:
            permissions = found.st_mode & 0o777 if mode is None else mode
            with os.fdopen(durable.create(temporary, permissions), "wb") as writer:
                shutil.copyfileobj(reader, writer, CHUNK_SIZE)
                writer.flush()
                os.utime(writer.fileno(), ns=(found.st_mtime_ns, found.st_mtime_ns))
                os.fsync(writer.fileno())
        durable.move(temporary, target)
        durable.sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def copy_journals(source: Path, target: Path) -> None:
    """Copy the journals in a folder that are new or have grown."""
    for file in sorted(source.glob("*.jsonl")):
        found, copy = file.stat(), target / file.name
        known = copy.stat() if copy.exists() else None
        if known is None or (known.st_size, known.st_mtime_ns) != (found.st_size, found.st_mtime_ns):
            copy_file(file, copy)
