"""Recognition: finds the manifests that were made of V1 images, where nothing says which ones were."""

from collections.abc import Iterator
from dataclasses import dataclass

from dualreg.catalog.rows import RepositoryRow
from dualreg.image.convert import manifest_from_chain
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName
from dualreg.registry.bridge import Bridge


@dataclass(frozen=True, slots=True)
class Recognition:
    """Makes the manifests of V1 images again, and compares them with those of the repository."""

    bridge: Bridge

    def recognize(self, repository: RepositoryRow, image: ImageId) -> tuple[Digest, ...]:
        """Record which manifests without a V1 view were made of an image, and return them.

        Raises:
            ImageUnknown, ImageIncomplete, ImageInvalid, BlobMissing: they cannot be made.
        """
        made = [*self._conversions(repository.name, image)]
        state = self.bridge.state
        with state.begin() as tx:
            known = tx.manifests.lock_existing(repository.id, made)
            found = [each for each in made if each in known and not tx.views.find(repository.id, each)]
            for manifest in found:
                state.record_view(tx, repository, manifest, image)
        return tuple(found)

    def _conversions(self, repository: RepositoryName, image: ImageId) -> Iterator[Digest]:
        """Yield what ``Bridge.tag`` makes of an image, also if another image has the same content."""
        links = self.bridge.named_links(repository, self.bridge.v1_images.ancestry(repository, image))
        for named in (False, True):
            yield Digest.of(manifest_from_chain(links, named=named).payload)
