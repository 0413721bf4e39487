"""Platform editions: of an index, for Docker that would have to wait for layers of other platforms.

They list the images for one platform only, whose layers are made first, and are given to clients that say
which system they are. Once all layers are ready, these get the edition that lists all images, like everybody
else. See docs/adr/0064-docker-waits-for-its-own-platform.md.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock

from cachetools import LRUCache

from dualreg.catalog.rows import ManifestRow
from dualreg.errors import BlobDamaged, BlobMissing, ImageUnreadable, LayersPending, RegistryError
from dualreg.image import media_types
from dualreg.image.editions import Edition
from dualreg.image.names import RepositoryName
from dualreg.image.platform import Platform
from dualreg.registry.editions import Editions

#: Editions of which each process remembers that they were given to clients.
_CAPACITY = 1000


@dataclass(frozen=True, slots=True)
class PlatformEditions:
    """Makes editions of indexes for one platform, and finds those that were made."""

    editions: Editions
    _given: LRUCache[tuple[ManifestRow, Edition, Platform], None] = field(
        default_factory=lambda: LRUCache(_CAPACITY)
    )
    _lock: Lock = field(default_factory=Lock)

    def make(
        self, repository: RepositoryName, index: ManifestRow, edition: Edition, platform: Platform
    ) -> ManifestRow:
        """Return an edition of an index: with all images or, if some are not ready, with those of a platform.

        Raises:
            LayersPending: those of the platform are not ready, or it lists none for it.
            ImageUnreadable, BlobMissing, BlobDamaged: as ``Editions.make``.
        """
        key = index, edition, platform
        with self._lock:  # who has waited once for the images of all platforms does not again
            whole = self._hasty() if key in self._given else self.editions
        try:
            return whole.make(repository, index, edition, first=platform)
        except LayersPending:
            made = self._make(self._hasty(), repository, *key)
            if made is None:
                raise
        except (RegistryError, BlobMissing, BlobDamaged, OSError):  # which may be about other platforms
            made = self._make(self.editions, repository, *key)
            if made is None:
                raise
        with self._lock:
            self._given[key] = None
        return made

    def _hasty(self) -> Editions:
        """Return what makes editions without waiting for layers that other threads make."""
        return replace(self.editions, transcoding=self.editions.transcoding.hasty())

    def _make(
        self,
        editions: Editions,
        repository: RepositoryName,
        index: ManifestRow,
        edition: Edition,
        platform: Platform,
    ) -> ManifestRow | None:
        """Return the edition for a platform, made and stored on first use; None: there is no image for it."""
        ours = editions.entries.of_platform(editions.entries.images(repository, index), platform)
        if not ours.listed:
            return None
        made, _ = editions.index(repository, index, edition, ours)
        return editions.store(repository, index, edition.kind_for(platform), *made)

    def remake(
        self, repository: RepositoryName, index: ManifestRow, kinds: AbstractSet[str]
    ) -> Iterator[tuple[str, bytes]]:
        """Yield the payloads of those that are recorded as one of *kinds* of a manifest, with the kinds."""
        if index.media_type not in media_types.INDEXES:
            return
        entries = self.editions.entries
        with suppress(ImageUnreadable):
            images = entries.images(repository, index)
            named = (Platform.named_by(entries.platform(each)) for each in images.listed)
            for platform in dict.fromkeys(each._replace(variant="") for each in named):
                for edition in Edition:
                    kind = edition.kind_for(platform)
                    if kind in kinds:
                        ours = entries.of_platform(images, platform)
                        (_, payload), _ = self.editions.index(repository, index, edition, ours)
                        yield kind, payload
