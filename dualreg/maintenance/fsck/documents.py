"""Manifests as they are in the store, whatever the catalog says of them."""

from contextlib import suppress

from dualreg.errors import BlobMissing, ManifestInvalid
from dualreg.image.digest import Digest
from dualreg.image.manifest import Manifest, stored
from dualreg.storage import Store
from dualreg.storage.base import StoreUnavailable

#: Bytes of the largest manifest that is read; none that was accepted is larger.
_LIMIT = 8 << 20
#: Of how many manifests it is remembered whether they describe themselves.
_REMEMBERED = 100_000


class Documents:
    """Reads manifests of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._described = dict[tuple[Digest, str], bool]()

    def payload(self, manifest: Digest) -> bytes | None:
        """Return the bytes of a manifest, which may be damaged; None if it cannot be read."""
        try:
            with self._store.open(manifest) as reader:
                return reader.read(_LIMIT)
        except StoreUnavailable:
            raise
        except (BlobMissing, OSError):
            return None

    def parse(self, manifest: Digest, media_type: str, payload: bytes) -> Manifest:
        """Return a manifest, and remember whether it describes itself.

        Raises:
            ManifestInvalid: it has another digest, or is no manifest of that media type.
        """
        found = stored(media_type, payload, manifest)
        if len(self._described) >= _REMEMBERED:
            self._described.clear()
        self._described[manifest, media_type] = found.self_described
        return found

    def describes_itself(self, manifest: Digest, media_type: str) -> bool:
        """Return whether a rebuild finds the media type in the document; True too if that is damaged."""
        if (manifest, media_type) not in self._described:
            payload = self.payload(manifest)
            with suppress(ManifestInvalid):
                return payload is None or self.parse(manifest, media_type, payload).self_described
        return self._described.get((manifest, media_type), True)
