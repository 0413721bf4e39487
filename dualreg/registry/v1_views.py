"""V1 views: the chains of V1 images that V1 clients see manifests as, derived once and recorded."""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import ManifestRow, Origin, RepositoryRow, V1ImageRow
from dualreg.errors import BlobDamaged, BlobMissing, ViewsPending
from dualreg.image import media_types
from dualreg.image.convert import Link
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import EMPTY_LAYER, empty_layer
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.chains import Chains, derived_rows
from dualreg.registry.inflating import InflatingSlots
from dualreg.registry.loaded import load_children
from dualreg.registry.manifests import Manifests
from dualreg.registry.state import STEP, State
from dualreg.registry.v1_comparison import RecordedAs, recorded_as
from dualreg.registry.v1_images import V1Images
from dualreg.registry.visibility import log_unseen

_log = logging.getLogger(__name__)
#: Views that one request derives; each takes about ten milliseconds.
_DERIVED_AT_ONCE = 2000
#: When a client that found more of them missing may try again, in seconds.
_RETRY_AFTER = 5
#: How often a view is recorded anew while clients push images of the same IDs.
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class V1Views:
    """Derives the V1 views of manifests.

    Attributes:
        deriving: For requests that derive those of all tags of a repository.
    """

    state: State
    manifests: Manifests
    chains: Chains
    v1_images: V1Images
    deriving: InflatingSlots = field(default_factory=InflatingSlots)

    def derive_all(self, repository: RepositoryName, tag: Tag | None, origins: Collection[Origin]) -> bool:
        """Derive the V1 views that are missing; return False if the files for all of them are lost.

        Args:
            tag: Only that of the manifest of this tag; None: of all tags of *origins*.

        Raises:
            ViewsPending: more are missing than one request derives; the next one goes on.
            ServerBusy: too many requests are deriving those of whole repositories.
        """
        missing = self._missing(repository, tag, origins)
        if not missing or tag is not None:
            return self._derive_each(repository, missing)
        with self.deriving.slot():
            missing = self._missing(repository, tag, origins)  # another request may have derived them
            derived = self._derive_each(repository, missing[:_DERIVED_AT_ONCE])
        if derived and missing[_DERIVED_AT_ONCE:]:
            raise ViewsPending(retry_after=_RETRY_AFTER)
        return derived

    def _missing(
        self, repository: RepositoryName, tag: Tag | None, origins: Collection[Origin]
    ) -> Sequence[ManifestRow]:
        """Return the manifests whose views are missing: one more than a request derives at most."""
        with self.state.catalog.read() as tx:
            return tx.views.missing(repository, tag, origins=origins, limit=_DERIVED_AT_ONCE + 1)

    def _derive_each(self, repository: RepositoryName, missing: Sequence[ManifestRow]) -> bool:
        """Derive views; return False if the files for all of them are lost."""
        derived = [self._try_to_derive(RepositoryRow(row.repository_id, repository), row) for row in missing]
        return not missing or any(derived)

    def _try_to_derive(self, repository: RepositoryRow, row: ManifestRow) -> bool:
        """Derive the V1 view of a manifest; return False if its files are lost or damaged."""
        try:
            self._derive(repository, row)
        except (BlobMissing, BlobDamaged) as error:  # those of other tags can be derived all the same
            _log.warning("%s: cannot derive the V1 view of %s: %s", repository.name, row.digest, error)
            return False
        return True

    def _derive(self, repository: RepositoryRow, row: ManifestRow) -> None:
        """Derive the V1 view of a manifest, and record it."""
        image = self.manifests.image_of(repository.name, row)
        if image:
            load_children(self.state, repository.name, image.digest, Role.CONFIG, Role.LAYER)
        chain = (image and self.chains.of(image)) or ()
        signed = image is not None and image.media_type in media_types.SCHEMA1_TYPES
        derived, jsons = derived_rows(repository, chain), [link.image.json for link in chain]
        for _ in range(_ATTEMPTS):
            recorded = recorded_as(
                self.state, self.manifests.documents, repository, zip(derived, jsons, strict=True)
            )
            if self._record_view(repository, row, recorded, chain, signed=signed):
                return

    def _record_view(
        self,
        repository: RepositoryRow,
        row: ManifestRow,
        recorded: RecordedAs,
        chain: Sequence[Link],
        *,
        signed: bool,
    ) -> bool:
        """Record a chain as the V1 view of a manifest; return False if its IDs were pushed meanwhile.

        Args:
            recorded: The images of the chain, base first, as the repository has them.
            signed: Whether the manifest is schema 1. A client that signs that chooses its IDs, and must not
                take over those of other images.
        """
        is_seen = bool(chain) and not (signed and recorded.contradicted)
        below: Sequence[V1ImageRow] = ()
        if is_seen:
            self.state.store_documents(repository, missing_documents(recorded.images, chain))
            below = self._record_below(repository, row, recorded, signed=signed)
        with self.state.begin() as tx:
            locked = tx.repositories.lock(repository.name, exclusive=signed)
            if locked is None or not tx.manifests.lock_view(repository.id, row.digest):
                return True  # deleted in the meantime
            if tx.views.is_recorded(repository.id, row.digest):
                return True  # by another request
            if signed and not recorded.is_current(tx, repository, below):
                return False
            if not is_seen:
                self.state.record_view(tx, repository, row.digest, None)
                log_unseen(tx, repository, row.digest, recorded.contradicted)
                return True
            if not record_missing(tx, self.v1_images, repository, recorded.images):
                return False
            self.state.record_view(tx, repository, row.digest, recorded.images[-1].id)
        return True

    def _record_below(
        self, repository: RepositoryRow, row: ManifestRow, recorded: RecordedAs, *, signed: bool
    ) -> Sequence[V1ImageRow]:
        """Record the images below the top of a long chain, base first, STEP in each transaction.

        Return those that were recorded: not all if the manifest is deleted or, with *signed*, IDs of the
        chain are pushed meanwhile.
        """
        below = recorded.images[:-1] if len(recorded.images) > STEP else ()
        for first in range(0, len(below), STEP):
            with self.state.begin() as tx:
                is_there = tx.repositories.lock(repository.name, exclusive=signed) == repository
                if not is_there or not tx.manifests.lock_existing(repository.id, [row.digest]):
                    return below[:first]
                if signed and not recorded.is_current(tx, repository, below[:first]):
                    return below[:first]
                record_missing(tx, self.v1_images, repository, below[first : first + STEP])
        return below


def record_missing(
    tx: Transaction, v1_images: V1Images, repository: RepositoryRow, images: Sequence[V1ImageRow]
) -> bool:
    """Record those of *images* that the repository does not have yet, as ``V1Images.record``.

    Return False, and record none, if a JSON or layer of theirs was deleted.
    """
    known = tx.v1_images.complete_ones(repository.id, [image.id for image in images])
    missing = [image for image in images if known.get(image.id) != image]
    needed = {digest for image in missing for digest in (image.json, image.layer) if digest}
    if needed - tx.blobs.linked(repository.id, needed).keys():
        return False
    v1_images.record(tx, repository, missing)
    return True


def missing_documents(images: Iterable[V1ImageRow], chain: Iterable[Link]) -> list[bytes]:
    """Return what has to be stored for *images*: JSONs of *chain* that they use, and the empty layer."""
    jsons = {Digest.of(link.image.json): link.image.json for link in chain}
    needed = {image.json: jsons[image.json] for image in images if image.json in jsons}
    empty = any(image.layer == empty_layer().digest for image in images)
    return [*needed.values(), *([EMPTY_LAYER] if empty else ())]
