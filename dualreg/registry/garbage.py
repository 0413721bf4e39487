"""Garbage: what nothing uses, decided anew under locks, a few links or blobs in each transaction.

Rows go first, and bytes last. ``maintenance.gc`` runs it; ``State.promise`` keeps what clients were told of.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.catalog.garbage import Candidate
from dualreg.catalog.rows import BlobRow, RepositoryRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.registry.manifests import Manifests
from dualreg.registry.state import State

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
    manifests: Manifests

    def due_at(self) -> datetime:
        """Return the time before which something must have been noted to be garbage now."""
        return self.state.catalog.now() - self.state.retention.grace

    def candidates(self, before: datetime, after: Candidate | None = None) -> Sequence[Candidate]:
        """Return some links that were noted at *before* or earlier, oldest first, those after *after*."""
        with self.state.catalog.read() as tx:
            return tx.garbage.candidates(before, after, PAGE)

    def review(self, batch: Sequence[Candidate]) -> Released:
        """Unlink those candidates of one repository that are still unused; the others are none any longer.

        Manifests and V1 images that nothing leads to are deleted. What they used becomes a candidate.
        """
        sizes = {each.digest: each.size for each in batch}
        with self.state.begin() as tx:
            row = tx.repositories.lock(batch[0].repository, exclusive=True)
            if row is None or row.id != batch[0].repository_id:
                return Released()
            before = tx.now - self.state.retention.grace
            digests = tx.garbage.lock(row.id, sizes, before)
            tops = tx.garbage.unused_images(row.id, digests, before)
            going, waiting = self._untagged(tx, row, [each for each in batch if each.digest in digests])
            tx.garbage.settle(row.id, [digest for digest in digests if digest not in waiting])
            for digest in going:
                self.manifests.remove(tx, row, digest)
            images = [image for top in tops for image in tx.v1_images.prune(row, top, asked_before=before)]
            unlinked = {*tx.blobs.unlink(row.id, *digests)} | going
            self.state.links.remove_v1_images(row.name, *(image.id for image in images))
            self.state.links.remove_blobs(row.name, *unlinked)
        size = sum(sizes[digest] for digest in unlinked)
        return Released(len(going), len(images), len(unlinked), size)

    def _untagged(
        self, tx: Transaction, repository: RepositoryRow, batch: Sequence[Candidate]
    ) -> tuple[set[Digest], set[Digest]]:
        """Return which manifests of a batch nothing leads to: for long enough to go, and not yet."""
        kept = self.state.retention.untagged
        if kept is None:
            return set(), set()
        untagged = tx.garbage.unused_manifests(repository.id, [each.digest for each in batch])
        going = {each.digest for each in batch if each.digest in untagged and each.since <= tx.now - kept}
        return going, {*untagged} - going

    def condemned(self, before: datetime, after: Digest | None = None) -> Sequence[BlobRow]:
        """Return some blobs to which the last link was deleted at *before* or earlier, after a digest."""
        with self.state.catalog.read() as tx:
            return tx.garbage.condemned(before, after, PAGE)

    def delete(self, batch: Sequence[BlobRow]) -> Sequence[BlobRow]:
        """Delete condemned blobs with their bytes, unless they were pushed again; return which were."""
        with self.state.begin() as tx:
            before = tx.now - self.state.retention.grace
            locked = tx.garbage.lock_condemned([each.digest for each in batch], before)
            gone = [each for each in batch if each.digest in locked and tx.blobs.release(each.digest)]
            for each in gone:
                self.state.store.delete(each.digest)
        return gone

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
