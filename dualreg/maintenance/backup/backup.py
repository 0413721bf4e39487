"""A backup: the catalog at one instant, then the blobs that it lists, then the marker that says so.

Bytes are durable before rows refer to them, and garbage collection deletes them only a grace after the last
row is gone. So a backup that takes less than the grace finds every blob that its catalog lists.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dualreg.catalog.copying import measure, open_copy, snapshot
from dualreg.catalog.database import Catalog
from dualreg.image.digest import Digest
from dualreg.maintenance.backup.folder import BackupFolder, BackupInvalid, Marker, copy_journals, digest_of
from dualreg.maintenance.blob_copy import BlobCopy, Copied
from dualreg.storage.base import BlobStore

#: Blobs of a backup that are compared with its catalog at a time.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Backup:
    """Makes or updates a backup.

    Attributes:
        journals: The folder of the journals of migrations.
    """

    catalog: Catalog
    journals: Path
    folder: BackupFolder

    def run(self, copying: BlobCopy) -> tuple[Copied, int]:
        """Make the backup complete, and then delete what it no longer needs.

        Return what was copied, and how many blobs were deleted. If copying was stopped, the backup stays as
        it was, and the next run goes on.

        Raises:
            BackupInvalid: the folder cannot be used, or the registry has no blobs, but the backup has.
            OSError, DatabaseFailure: it cannot be written, or the catalog fails.
        """
        with self.folder.writing():
            at = self.catalog.now()
            path = self.folder.new_catalog(at)
            snapshot(self.catalog, path)
            with closing(open_copy(path)) as copy:
                self._require_content(copy)
                copied = copying.run(copy)
            if copying.stop.is_set():
                return copied, 0
            copy_journals(self.journals, self.folder.journals)
            sizes = (copied.blobs, copied.bytes, len(copied.missing))
            self.folder.conclude(Marker(at.isoformat(), path.name, digest_of(path), *sizes))
            return copied, self._delete_unlisted(path)

    def _require_content(self, copy: Catalog) -> None:
        """Raise BackupInvalid if a catalog lists no blobs, but that of the backup does.

        Such a registry is new: the one that was backed up is lost, or this is the wrong directory.
        """
        marker = self.folder.marker()
        if marker and marker.blobs and not measure(copy)[0]:
            raise BackupInvalid(
                f"the registry has no blobs, but the backup in {self.folder.path} has {marker.blobs}, which "
                "would be deleted; choose another directory"
            )

    def _delete_unlisted(self, path: Path) -> int:
        """Delete the blobs that the catalog in a file does not list; return how many."""
        store, deleted = self.folder.store, 0
        with closing(open_copy(path)) as copy:
            for digest in _unlisted(copy, store):
                store.delete(digest)
                deleted += 1
        return deleted

    def plan(self, copying: BlobCopy, scratch: Path) -> tuple[Copied, int]:
        """Return what ``run`` would copy and delete; only write a copy of the catalog to *scratch*.

        Raises:
            BackupInvalid, OSError, DatabaseFailure: as ``run``.
        """
        self.folder.require_usable()
        snapshot(self.catalog, scratch)
        with closing(open_copy(scratch)) as copy:
            self._require_content(copy)
            deleted = sum(1 for _ in _unlisted(copy, self.folder.store))
            return copying.plan(copy), deleted


def _unlisted(catalog: Catalog, store: BlobStore) -> Iterator[Digest]:
    """Yield the blobs of a store that a catalog does not list."""
    found = (blob.digest for blob in store.walk())
    while batch := [*islice(found, _BATCH)]:
        with catalog.read() as tx:
            known = tx.blobs.sizes(batch)
        yield from (digest for digest in batch if digest not in known)
