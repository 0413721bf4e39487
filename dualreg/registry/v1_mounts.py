"""Mounts of V1 images: a repository takes over an image of another one, so that no client sends it again.

A V1 client asks for each image whether the registry has it, before it sends it; the ID is all that it says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import BlobRow, RepositoryRow, V1ImageRow
from dualreg.errors import BlobDamaged, BlobMissing
from dualreg.image.names import ImageId, RepositoryName
from dualreg.patterns import Reach
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.state import State
from dualreg.registry.v1_images import V1Images

#: Images that one mount takes over. Clients ask for the base first, so that it is one as a rule.
_LIMIT = 128
#: How often a mount is tried while the client asks for other images of the chain: Docker 1.5 asks for five.
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class V1Mounts:
    """Lets repositories share V1 images."""

    state: State
    documents: DocumentCache
    images: V1Images

    def mount(self, repository: RepositoryName, image: ImageId, reach: Reach) -> bool:
        """Record a complete image, with the ancestors that *repository* lacks, as another one has it.

        Return whether it has the image then. If no other repository has it whole, nothing changes: the client
        sends it.

        Args:
            reach: Where the image may come from. An ID proves nothing about the content, so these should only
                be repositories that nobody else fills whom the client does not trust.
        """
        for _ in range(_ATTEMPTS):
            with self.state.catalog.read() as tx:
                target = tx.repositories.find(repository) or RepositoryRow(0, repository)  # has no images
                holder = tx.v1_images.holder(image, reach)
                chain = tx.v1_images.ancestry(holder, image) if holder else ()
                missing = _missing(tx, target, chain)
            if not chain or len(missing) > _LIMIT or any(map(self._is_unusable, missing)):
                return False
            try:
                if not missing or self._take(repository, chain, missing):
                    return True
            except (BlobDamaged, BlobMissing):  # deleted meanwhile
                return False
        return False

    def _is_unusable(self, row: V1ImageRow) -> bool:
        return not row.complete or self.images.repairs.is_lost(row)

    def _take(
        self, repository: RepositoryName, chain: Sequence[V1ImageRow], missing: Sequence[V1ImageRow]
    ) -> bool:
        """Record what a repository lacks of a chain; return False if that has changed.

        Raises:
            BlobDamaged, BlobMissing: some of it is gone.
        """
        blobs = [(None, blob) for row in missing for blob in self._blobs(row)]
        with self.state.begin() as tx:
            target = tx.repositories.ensure(repository, exclusive=True)
            if _missing(tx, target, chain) != missing:
                return False
            self.state.admit_all(tx, target, blobs)
            rows = [replace(row, repository_id=target.id) for row in reversed(missing)]
            self.images.record(tx, target, rows, same=True)
        return True

    def _blobs(self, row: V1ImageRow) -> Iterator[BlobRow]:
        yield BlobRow(row.json, len(self.documents.read(row.json)))
        if row.layer:
            yield BlobRow(row.layer, row.layer_size or 0)


def _missing(tx: Transaction, target: RepositoryRow, chain: Sequence[V1ImageRow]) -> list[V1ImageRow]:
    """Return the images of a chain, its top first, before the first one that a repository has."""
    known = tx.v1_images.complete_ones(target.id, [row.id for row in chain])
    return [*takewhile(lambda row: row.id not in known, chain)]
