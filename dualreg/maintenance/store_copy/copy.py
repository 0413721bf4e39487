"""A copy of a registry's content from one store to another, verified, which may be repeated at any time.

Blobs are copied as the catalog lists them, and hashed on their way. Link files are written from the rows. So
what is deleted while the copy runs does not come back, whichever store the registry uses meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dualreg.catalog.database import Catalog
from dualreg.catalog.dialects import batches
from dualreg.catalog.notes import Note
from dualreg.catalog.rows import BlobRow
from dualreg.image.layer import empty_layer
from dualreg.image.names import UploadId
from dualreg.maintenance.backup.restore import NotEmpty, is_empty_store
from dualreg.maintenance.blob_copy import BlobCopy, Copied, Missing, compared
from dualreg.maintenance.fsck.findings import Kind
from dualreg.registry import collections
from dualreg.registry.collections import Collections
from dualreg.storage import Store

#: The file of a store that says for which registry it has been written.
MARK = "copied-for"


@dataclass
class StoreCopied(Copied):
    """What was copied. The fields are keys of ``--json``.

    Attributes:
        links, removed: Link files that were written, and those that no row needs.
        uploads: Uploads in progress whose bytes are in the source, where they end.
    """

    links: int = 0
    removed: int = 0
    uploads: int = 0


@dataclass(frozen=True, slots=True)
class StoreCopy:
    """Copies a store.

    Attributes:
        is_own: Whether the registry already uses the target, which may then have content.
    """

    catalog: Catalog
    source: Store
    target: Store
    is_own: bool = False

    def require_usable(self, *private: str) -> None:
        """Check that a copy destroys nothing.

        Args:
            private: Files of a store that belong to a catalog.

        Raises:
            NotEmpty: the target has content that is not this registry's.
        """
        if self.is_own:
            return
        with self.catalog.read() as tx:
            mark = tx.notes.read(Note.STORE_COPY)
        found = self.target.read_private(MARK)
        if found is None and is_empty_store(self.target, collections.NAME, *private):
            return
        if found is None or mark is None or found.decode() != mark:
            raise NotEmpty(
                "the store to copy to has content that is not of this registry; choose another one"
            )

    def begin(self) -> None:
        """Mark the target as one with the content of this registry."""
        with self.catalog.begin() as tx:
            mark = tx.notes.lock(Note.STORE_COPY) or str(UploadId.new())
            tx.notes.write(Note.STORE_COPY, mark)
        self.target.write_private(MARK, mark.encode())

    def copy_blobs(self, copying: BlobCopy) -> StoreCopied:
        """Copy the blobs that the target lacks; what was deleted meanwhile is collected later.

        Raises:
            OSError: the target cannot be written.
        """
        return StoreCopied(**vars(copying.run(self.catalog, self._note_deleted)))

    def _note_deleted(self, copied: Sequence[BlobRow]) -> None:
        """Condemn what was copied, but is not in the catalog any more: it was collected meanwhile."""
        for batch in batches(copied):
            with self.catalog.read() as tx:
                known = tx.blobs.sizes([each.digest for each in batch])
            if gone := [each for each in batch if each.digest not in known]:
                with self.catalog.begin() as tx:
                    tx.garbage.adopt(gone)

    def conclude(self, result: StoreCopied) -> None:
        """Compare what the target has with the catalog, and count what still is in the source.

        What is missing is what the target lacks now, whatever it lacked before.
        """
        Collections(self.catalog, self.target).catch_up()
        reasons = {each.digest: each for each in result.missing}
        lacking = (reasons.get(each.digest) or self._missing(each) for each in self._lacking())
        result.missing = [*filter(None, lacking)]
        staged = (each.upload for each in self.source.staged())
        for batch in batches(staged):
            with self.catalog.read() as tx:
                result.uploads += len(tx.uploads.named(batch))

    def _lacking(self) -> list[BlobRow]:
        """Return the blobs of the catalog that are not in a list of the target, or not with their size."""
        found = compared(self.catalog, self.target)
        return [blob for blob, is_whole in found if not is_whole and blob.digest != empty_layer().digest]

    def _missing(self, blob: BlobRow) -> Missing | None:
        """Return why the target lacks a blob; None if it has it, or there is no such blob any more.

        It may have been pushed or collected between a part of the list and the look at its row.
        """
        with self.catalog.begin(durable=False) as tx:
            size, found = tx.checks.lock(blob.digest), self.target.stat(blob.digest)
        if size is None or (found and found.size == size):
            return None
        if self.source.stat(blob.digest):
            return Missing(Kind.LOST, blob.digest, "it was pushed meanwhile; run the command again")
        return Missing(Kind.LOST, blob.digest, "its file is missing")
