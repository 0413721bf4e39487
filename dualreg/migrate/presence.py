"""Presence: whether the bytes that the catalog lists are in the store, with their sizes; none are read."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from dualreg.catalog.rows import BlobRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.registry import Registry


@dataclass
class Presence:
    """Checks each blob until it was found once: a missing one may be imported with the next tag."""

    registry: Registry
    _blobs: set[BlobRow] = field(default_factory=set)
    _manifests: set[tuple[RepositoryName, Digest]] = field(default_factory=set)

    def blobs(self, blobs: Iterable[BlobRow]) -> bool:
        """Return whether all of *blobs* can be opened, and have their sizes."""
        return all(blob in self._blobs or self._is_stored(blob) for blob in blobs)

    def manifest(self, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether that is so for a manifest and all that it names in *repository*, directly or not."""
        if (repository, digest) in self._manifests:
            return True
        if not self.blobs(self.registry.manifests.reachable_blobs(repository, digest)):
            return False
        self._manifests.add((repository, digest))
        return True

    def _is_stored(self, blob: BlobRow) -> bool:
        try:
            found = self.registry.blobs.stored_size(blob.digest) == blob.size
        except OSError:
            return False
        if found:
            self._blobs.add(blob)
        return found
