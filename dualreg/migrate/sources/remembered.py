"""What a live registry said once, and need not be asked again for; the least used is forgotten."""

from threading import Lock

from cachetools import LRUCache

from dualreg.migrate.sources.base import SourceManifest

#: Bytes of all manifests that are remembered, and of the largest.
_ALL, _EACH = 64 << 20, 1 << 20


class Remembered:
    """Manifests between the look at a source and what is done then, for any number of threads."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._kept = LRUCache[tuple[str, str], SourceManifest](_ALL, lambda each: len(each.body) + 1000)
        self._lock = Lock()

    def get(self, repository: str, digest: str) -> SourceManifest | None:
        """Return a manifest; None if it is not remembered."""
        with self._lock:
            return self._kept.get((repository, digest))

    def put(self, repository: str, digest: str, manifest: SourceManifest) -> SourceManifest:
        """Remember a manifest that its digest is not held against yet; return it."""
        if len(manifest.body) <= _EACH:
            with self._lock:
                self._kept[repository, digest] = manifest
        return manifest
