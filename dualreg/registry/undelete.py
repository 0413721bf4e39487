"""Undelete: deleted manifests and repositories are restored from bytes that the garbage collection keeps.

What was deleted is pushed again from the store: one transaction links and counts all bytes of an image, so
that they stay, and then each document is recorded as if a client sent it, what it names before itself.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.catalog.deleted import DeletedImage, DeletedManifest, Part
from dualreg.catalog.dialects import batches
from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobDamaged, BlobMissing, DeletedForGood, ReferencesMissing
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import empty_layer
from dualreg.image.names import ImageId, RepositoryName
from dualreg.image.v1_image import V1Image
from dualreg.registry.counting import count_links
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.manifests import Manifests
from dualreg.registry.provenance import Provenance
from dualreg.registry.state import STEP, State
from dualreg.registry.v1_images import V1Images
from dualreg.registry.v1_imported import ImportedImage

#: Manifests that are read at a time.
_PAGE = 200


class _Deleted(NamedTuple):
    """A deleted manifest with all that is to be restored along with it.

    Attributes:
        manifests: Each after those that it names, and before those about it.
        images: V1 images, each after its parent.
        parts: What all of these consist of.
    """

    manifests: Sequence[DeletedManifest]
    images: Sequence[DeletedImage]
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Undelete:
    """Restores what was deleted."""

    state: State
    documents: DocumentCache
    manifests: Manifests
    v1_images: V1Images

    def manifest(self, repository: RepositoryName, digest: Digest) -> int:
        """Restore a manifest without tags, all that it names, and what was attached to it then.

        Return how many manifests were restored; none if the repository has it, or nothing is known of it.

        Raises:
            DeletedForGood: bytes of it are gone.
            QuotaExceeded: it does not fit; nothing was restored.
        """
        with self.state.catalog.read() as tx:
            if tx.manifests.find(repository, digest):
                return 0
            deleted = _with_all(tx, repository, digest)
        if not deleted.manifests:
            return 0
        self._link(repository, digest, deleted.parts)
        try:
            for batch in batches(deleted.images, STEP):
                self.v1_images.import_images(repository, [(self._imported(each), None) for each in batch])
            for each in deleted.manifests:
                self._put(repository, each, deleted.parts)
        except (BlobMissing, BlobDamaged, ReferencesMissing) as error:
            raise DeletedForGood(repository=repository, digest=str(digest)) from error
        digests = [each.digest for each in deleted.manifests]
        with self.state.catalog.begin() as tx:
            # Locked, since one that was deleted again meanwhile was recorded again, too.
            tx.repositories.lock(repository, exclusive=True)
            tx.undelete.forget(repository, tx.manifests.find_all(repository, digests))
        return len(digests)

    def _link(self, repository: RepositoryName, digest: Digest, parts: Collection[Part]) -> None:
        """Let the repository have the blobs, all or none of them, from now on.

        Raises:
            DeletedForGood, QuotaExceeded.
        """
        with self.state.catalog.read() as tx:
            sizes = tx.blobs.sizes({part.digest for part in parts})
        if not all(self._is_stored(each, size) for each, size in sizes.items()):
            raise DeletedForGood(repository=repository, digest=str(digest))
        blobs = [BlobRow(each, size) for each, size in sizes.items()]
        with (
            self.state.arriving(repository, *((None, blob) for blob in blobs)) as arriving,
            self.state.begin() as tx,
        ):
            row = tx.repositories.ensure(repository)
            # Bytes go with the rows, whose locks this waits for.
            if len(tx.undelete.revive(sizes)) < len({part.digest for part in parts}):
                raise DeletedForGood(repository=repository, digest=str(digest))
            tx.blobs.link_all(((row.id, each) for each in sizes), tx.now)
            count_links(self.state.policies, tx, row, blobs)
            self.state.links.place(arriving.files)

    def _is_stored(self, digest: Digest, size: int) -> bool:
        """Return whether the store has the blob: one to which a registry has moved has what is linked."""
        found = self.state.store.stat(digest)
        return digest == empty_layer().digest or (found is not None and found.size == size)

    def _imported(self, image: DeletedImage) -> ImportedImage:
        return ImportedImage(
            V1Image.parse(self.documents.read(image.json)),
            BlobRow(image.layer, image.layer_size),
            image.diff_id,
            image.checksum,
            image.tarsum,
            image.tarsum_verified,
        )

    def _put(self, repository: RepositoryName, deleted: DeletedManifest, parts: Collection[Part]) -> None:
        """Record a manifest as its client sent it: of schema 1, with its signatures.

        Raises:
            ReferencesMissing: children that it had are lost, or were unlinked again.
        """
        own = [part for part in parts if part.owner == str(deleted.digest)]
        document = next((part.digest for part in own if part.role == Role.SIGNED), deleted.digest)
        provenance = Provenance(v1_view=deleted.v1_view, pushed_at=deleted.pushed_at, restored=True)
        payload = self.documents.read(document)
        put = partial(self.manifests.put, repository, deleted.digest, deleted.media_type, payload)
        try:
            put(provenance=provenance)
        except ReferencesMissing as error:
            if {str(part.digest) for part in own}.intersection(error.digests):
                raise
            put(provenance=replace(provenance, lacking=True))

    def gone(self, repository: RepositoryName) -> Iterator[Digest]:
        """Yield the manifests that were deleted with the repository, or since, in the order of deletion."""
        with self.state.catalog.read() as tx:
            began, after = tx.undelete.began_at(repository), None
        while began:
            with self.state.catalog.read() as tx:
                page = tx.undelete.since(repository, began, after, _PAGE)
            yield from (each.digest for each in page)
            if len(page) < _PAGE:
                return
            after = page[-1].deleted_at, page[-1].digest


def _with_all(tx: Transaction, repository: RepositoryName, digest: Digest) -> _Deleted:
    """Return a deleted manifest with all that is to be restored along with it; empty if it is not known."""
    found, parts = dict[Digest, DeletedManifest](), list[Part]()
    level: Collection[Digest] = [digest]
    while level:
        present = tx.manifests.find_all(repository, level)
        rows = tx.undelete.find(repository, [each for each in level if each not in present])
        found |= rows
        own = tx.undelete.parts(repository, rows)
        parts += own
        following = {part.digest for part in own if part.role == Role.MANIFEST}
        following |= {each.digest for row in rows.values() for each in tx.undelete.referrers(repository, row)}
        level = following - {*found}
    images = dict[ImageId, DeletedImage]()
    for view in {row.v1_view for row in found.values() if row.v1_view}:
        images |= {image.id: image for image in tx.undelete.ancestry(repository, view)}
    parts += tx.undelete.parts(repository, images)
    if tx.undelete.find(repository, found).keys() != found.keys():
        return _Deleted((), (), ())  # forgotten meanwhile, maybe before its parts were read
    return _Deleted(_ordered(found, parts), [*images.values()], parts)


def _ordered(found: dict[Digest, DeletedManifest], parts: Collection[Part]) -> list[DeletedManifest]:
    """Return manifests, each after those that it names, and before those about it."""
    above = dict[str, set[Digest]]()
    for part in parts:
        if part.role == Role.MANIFEST and part.digest in found:
            above.setdefault(part.owner, set()).add(part.digest)
    for row in found.values():
        if row.subject in found:
            above.setdefault(str(row.digest), set()).add(row.subject)
    ordered = dict[Digest, DeletedManifest]()
    waiting = [*found]
    while waiting:
        free = [each for each in waiting if above.get(str(each), set()) <= ordered.keys()]
        # Of a circle of subjects, which digests make impossible, the rest comes in any order.
        ordered |= {each: found[each] for each in free or waiting}
        waiting = [each for each in waiting if each not in ordered]
    return [*ordered.values()]
