"""Mounts of V1 images: a repository takes over an image of another one, so that no client sends it again.

A V1 client asks for each image whether the registry has it, before it sends it; the ID is all that it says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import BlobRow, RepositoryRow, V1ImageRow
from dualreg.errors import BlobDamaged, BlobMissing
from dualreg.image.layer import have_same_files
from dualreg.image.names import ImageId, RepositoryName
from dualreg.image.v1_image import CHAIN_LIMIT
from dualreg.patterns import Reach
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.state import STEP, State
from dualreg.registry.v1_holds import HOLD
from dualreg.registry.v1_repairs import V1Repairs, v1_facts
from dualreg.storage.links import staged_v1_image

#: Images that one mount takes over. Clients ask for the base first, so that it is one as a rule.
_LIMIT = 128
#: Repositories that it is looked for in.
_HOLDERS = 5
#: How often a repository is tried: each time takes a few images over, unless another request was faster.
_ATTEMPTS = _LIMIT // STEP + 10


class _Changed(Exception):
    """The repositories have changed since they were read."""


@dataclass(frozen=True, slots=True)
class V1Mounts:
    """Lets repositories share V1 images."""

    state: State
    documents: DocumentCache
    repairs: V1Repairs

    def mount(self, repository: RepositoryName, image: ImageId, reach: Reach) -> bool:
        """Record a complete image, with the ancestors that *repository* lacks, as another one has it.

        Return whether the repository has the image then. If not, the client sends it: none of a few other
        repositories has it complete and in the store, or it does not fit on what this one has.

        Args:
            reach: Where the image may come from. An ID proves nothing about the content, so these should be
                repositories to which only people push whom the client trusts.
        """
        with self.state.catalog.read() as tx:
            holders = tx.v1_images.holders(image, reach, but=repository, limit=_HOLDERS)
        return any(self._mount_from(holder, repository, image) for holder in holders)

    def _mount_from(self, holder: RepositoryName, repository: RepositoryName, image: ImageId) -> bool:
        for _ in range(_ATTEMPTS):
            with self.state.catalog.read() as tx:
                chain = tx.v1_images.ancestry(holder, image)
                target = tx.repositories.find(repository) or RepositoryRow(0, repository)  # has no images
                missing = _missing(tx, target, chain)
            if not chain or missing is None or len(missing) > _LIMIT:
                return False
            if not missing:
                return True
            try:
                self._take(repository, chain, missing)
            except _Changed:
                continue
            except (BlobDamaged, BlobMissing):
                return False
        return False

    def _take(
        self, repository: RepositoryName, chain: Sequence[V1ImageRow], missing: Sequence[V1ImageRow]
    ) -> None:
        """Record the lowest few images that a repository lacks of a chain.

        Raises:
            _Changed: it lacks others.
            BlobDamaged, BlobMissing: one of them is not complete, or its bytes are gone.
        """
        rows = missing[: -STEP - 1 : -1]
        blobs = [(None, blob) for row in rows for blob in self._blobs(row)]
        now = self.state.catalog.now()
        links = [staged_v1_image(repository, row.id, v1_facts(row), now) for row in rows]
        with self.state.arriving(repository, *blobs, also=links) as arriving, self.state.begin() as tx:
            target = tx.repositories.ensure(repository, exclusive=True)
            if _missing(tx, target, chain) != missing:
                raise _Changed
            arriving.record(tx, target)
            for row in rows:
                tx.v1_images.record(replace(row, repository_id=target.id))
            self.state.links.place(arriving.files)

    def _blobs(self, row: V1ImageRow) -> Iterator[BlobRow]:
        """Yield the JSON and the layer of an image, which the store has.

        Raises:
            BlobMissing: it has not, or the image is not complete.
        """
        if not row.complete or self.repairs.is_lost(row):
            raise BlobMissing(row.json)
        yield BlobRow(row.json, len(self.documents.read(row.json)))
        if row.layer:
            yield BlobRow(row.layer, row.layer_size or 0)


def _missing(
    tx: Transaction, target: RepositoryRow, chain: Sequence[V1ImageRow]
) -> Sequence[V1ImageRow] | None:
    """Return the images of a chain, its top first, before the first one that a repository has.

    None if they do not fit on that: it is another image, or has one of them as an ancestor; the whole chain
    would be too long; or a client is pushing one of them.
    """
    known = tx.v1_images.complete_ones(target.id, [row.id for row in chain])
    missing = [*takewhile(lambda row: row.id not in known, chain)]
    ids = [row.id for row in missing]
    if ids and tx.v1_images.is_pushed(target.id, ids, since=tx.now - HOLD):
        return None
    if missing and len(missing) < len(chain):
        base = chain[len(missing)]
        same = known[base.id].parent == base.parent and have_same_files(known[base.id].diff_id, base.diff_id)
        below = [row.id for row in tx.v1_images.ancestry(target.name, base.id)]
        if not same or not {*ids}.isdisjoint(below) or len(ids) + len(below) > CHAIN_LIMIT:
            return None
    return missing
