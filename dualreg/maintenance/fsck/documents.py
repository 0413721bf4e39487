"""Manifests as they are in the store, whatever the catalog says of them."""

from contextlib import suppress
from functools import lru_cache

from dualreg.errors import BlobMissing, ManifestInvalid
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.manifest import stored
from dualreg.storage import Store

#: Bytes of the largest manifest that is read; none that was accepted is larger.
_LIMIT = 8 << 20
#: Of how many manifests it is remembered what they say.
_REMEMBERED = 1000


class Documents:
    """Reads manifests of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._remembered = lru_cache(_REMEMBERED)(self._describes_itself)

    def payload(self, manifest: Digest) -> bytes | None:
        """Return the bytes of a manifest, which may be damaged; None if it cannot be read."""
        with suppress(BlobMissing, OSError), self._store.open(manifest) as reader:
            return reader.read(_LIMIT)
        return None

    def describes_itself(self, manifest: Digest, media_type: str) -> bool:
        """Return whether a rebuild finds the media type in the document.

        True too if the document is damaged, or is right and the catalog wrong.
        """
        return self._remembered(manifest, media_type)

    def _describes_itself(self, manifest: Digest, media_type: str) -> bool:
        payload = self.payload(manifest)
        with suppress(ManifestInvalid, ValueError):
            is_right = payload is not None and declared(payload, media_type) == media_type
            return not is_right or stored(media_type, payload or b"", manifest).self_described
        return True


def declared(payload: bytes, media_type: str) -> str:
    """Return the media type that a manifest states; else *media_type*.

    Raises:
        ValueError: it is no JSON object.
    """
    return str(parse_object(payload).get("mediaType") or media_type)
