"""Garbage: what nothing uses, decided anew under locks, a few links or blobs in each transaction.

Rows go first, and bytes last. ``maintenance.gc`` runs it; ``State.promise`` keeps what clients were told of.
"""

import errno
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.catalog.deleted import KeptBytes
from dualreg.catalog.garbage import Candidate, Condemned
from dualreg.catalog.rows import BlobRow, RepositoryRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.registry.counting import uncount_links
from dualreg.registry.deletion import is_restorable
from dualreg.registry.state import State

_log = logging.getLogger(__name__)
#: Links or blobs that are read at a time.
PAGE = 500


class Released(NamedTuple):
    """What a repository no longer has; *bytes* is the size of the *blobs*, which others may have."""

    manifests: int = 0
    images: int = 0
    blobs: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Garbage:
    """Finds garbage, and deletes it."""

    state: State

    def due_at(self) -> datetime:
        """Return the time before which something must have been noted to be garbage now."""
        return self.state.catalog.now() - self.state.retention.grace

    def candidates(self, before: datetime, after: Candidate | None = None) -> Sequence[Candidate]:
        """Return some links that were noted at *before* or earlier, oldest first, those after *after*."""
        kept = self.state.retention.untagged
        with self.state.catalog.read() as tx:
            untagged_before = None if kept is None else tx.now - kept
            return tx.garbage.candidates(before, after, PAGE, untagged_before=untagged_before)

    def review(self, batch: Sequence[Candidate]) -> Released:
        """Unlink those candidates of one repository that are still unused; used ones are none any longer.

        Manifests and V1 images that nothing leads to are deleted. What they used becomes a candidate.
        """
        sizes = {each.digest: each.size for each in batch}
        with self.state.begin() as tx:
            row = tx.repositories.lock(batch[0].repository, exclusive=True)
            if row is None or row.id != batch[0].repository_id:
                return Released()
            before, keep = tx.now - self.state.retention.grace, self.state.retention.untagged is None
            digests = tx.garbage.lock(row.id, sizes, before)
            if not digests:
                return Released()
            tops = tx.garbage.unused_images(row.id, digests, before)
            going = () if keep else tx.garbage.unused_manifests(row.id, digests)
            unlinked = {*tx.blobs.unlink(row.id, *digests)}
            self._keep(tx, row, going)
            removed = tx.manifests.remove(row.id, *going) if going else {}
            images = [image for top in tops for image in tx.v1_images.prune(row, top, asked_before=before)]
            # Not what they named, or were seen as: clients may have been told of that while it was in use.
            documents = {*going, *(image.json for image in images)}.intersection(digests)
            unlinked.update(tx.blobs.unlink(row.id, *documents))
            uncount_links(self.state.policies, tx, row, unlinked)
            tx.garbage.settle(row.id, digests, keep_untagged=keep)
            self.state.links.remove_manifests(row.name, removed)
            self.state.links.remove_v1_images(row.name, *(image.id for image in images))
            self.state.links.remove_blobs(row.name, *unlinked)
        size = sum(sizes[digest] for digest in unlinked)
        return Released(len(going), len(images), len(unlinked), size)

    def _keep(self, tx: Transaction, repository: RepositoryRow, manifests: Collection[Digest]) -> None:
        """Record, of manifests that are about to be deleted, what can be restored, with its own time."""
        if not manifests or not is_restorable(self.state, tx, repository):
            return
        times = tx.undelete.left_at(repository, manifests, tx.now - self.state.retention.undelete)
        for at in sorted({*times.values()}):
            tx.undelete.record(repository, [each for each in times if times[each] == at], at)

    def kept_since(self) -> datetime:
        """Return the time after which something must have been deleted to be kept now."""
        return self.state.catalog.now() - self.state.retention.undelete

    def condemned(
        self, before: datetime, after: Condemned | None = None, *, kept_since: datetime | None = None
    ) -> Sequence[Condemned]:
        """Return some blobs to which the last link was deleted at *before* or earlier, after *after*.

        Args:
            kept_since: Without what was deleted later and can be restored; None: as the setting says.
        """
        kept_since = kept_since or self.kept_since()
        with self.state.catalog.read() as tx:
            return tx.garbage.condemned(before, after, PAGE, kept_since=kept_since)

    def kept(self, kept_since: datetime) -> tuple[KeptBytes, datetime | None]:
        """Return what is kept only because it was deleted after a time, and until when the last of it is."""
        with self.state.catalog.read() as tx:
            found = tx.undelete.kept(kept_since)
        return found, found.last and found.last + self.state.retention.undelete

    def expire(self, kept_since: datetime) -> Iterator[int]:
        """Forget what was deleted at a time or earlier, a page at a time; yields how many rows went."""
        gone = PAGE
        while gone >= PAGE:
            with self.state.catalog.begin() as tx:
                gone = tx.undelete.expire(kept_since, PAGE)
            if gone:
                yield gone

    def delete(
        self, batch: Sequence[Condemned], *, kept_since: datetime | None = None
    ) -> Sequence[Condemned]:
        """Delete condemned blobs with their bytes, unless they were pushed again; return which were deleted.

        What ``condemned`` leaves out stays. A file that cannot be deleted is tried again after another grace,
        so that it does not stop the others.

        Raises:
            OSError: the disk is read-only.
        """
        before, kept_since = self.due_at(), kept_since or self.kept_since()
        self.state.catalog.settle()  # a power cut must not bring back the link that another process deleted
        with self.state.deleting() as (tx, remove):
            locked = tx.garbage.lock_condemned([each.digest for each in batch], before, kept_since=kept_since)
            gone = tx.blobs.release(*locked)
            return [each for each in batch if each.digest in gone and self._remove(tx, each, remove)]

    def _remove(self, tx: Transaction, blob: Condemned, remove: Callable[[Digest], None]) -> bool:
        try:
            remove(blob.digest)
        except OSError as error:
            if error.errno == errno.EROFS:
                raise
            _log.warning("cannot delete the file of %s: %s", blob.digest, error.strerror)
            tx.garbage.adopt([BlobRow(blob.digest, blob.size)])
            return False
        return True

    def empty_repositories(self) -> Iterator[RepositoryName]:
        """Yield repositories that were created before the grace and have no blobs, and may have uploads."""
        last = None
        while True:
            with self.state.catalog.read() as tx:
                names = tx.garbage.empty_repositories(self.due_at(), last, PAGE)
            if not names:
                return
            yield from names
            last = names[-1]
