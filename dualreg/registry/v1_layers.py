"""V1 layers: the layers of V1 images as V1 clients can read them.

Clients push none that is compressed with zstd, but manifests that are seen as V1 images may have some. Their
IDs follow from diff IDs, so that nothing waits for the gzip edition of such a layer before it is asked for.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock

from cachetools import LRUCache

from dualreg.catalog.rows import BlobRow, V1ImageRow
from dualreg.errors import BlobMissing, ImageUnknown, LayersPending
from dualreg.image.digest import Digest
from dualreg.image.inflater import Compression
from dualreg.image.names import RepositoryName
from dualreg.registry.transcoding import Transcoding

#: Layers of which each process remembers whether they are compressed with zstd.
_CAPACITY = 10_000


@dataclass(frozen=True, slots=True)
class V1Layers:
    """Finds the layers of V1 images, and has them made."""

    transcoding: Transcoding
    _zstd: LRUCache[Digest, bool] = field(default_factory=lambda: LRUCache(_CAPACITY))
    _lock: Lock = field(default_factory=Lock)

    def get(self, repository: RepositoryName, row: V1ImageRow) -> BlobRow:
        """Return the layer of a complete image: as it was pushed or, if that is zstd, its gzip edition.

        Raises:
            ImageUnknown: there is no layer, or its bytes are lost.
            LayersPending, ImageInvalid, BlobMissing, BlobDamaged: as ``Transcoding.gzipped``.
        """
        if row.layer is None:
            raise ImageUnknown(id=row.id)
        if not self._is_zstd(row, row.layer):
            return BlobRow(row.layer, row.layer_size or 0)
        return self.transcoding.editions(repository, frozenset([row.layer]))[row.layer]

    def find(self, repository: RepositoryName, row: V1ImageRow) -> BlobRow | None:
        """Return the layer as ``get``; None: it will be there later."""
        with suppress(LayersPending):
            return self.get(repository, row)
        return None

    def size(self, row: V1ImageRow) -> int:
        """Return the bytes of the layer that ``get`` returns, or -1 if it is not made yet.

        Docker draws its progress by it, and before 1.1.2 crashes if more arrives.
        """
        if row.layer is None or not self._is_zstd(row, row.layer):
            return row.layer_size or 0
        with self.transcoding.state.catalog.read() as tx:
            made = tx.transcoded.find([row.layer])
        return made[row.layer].size if made else -1

    def _is_zstd(self, row: V1ImageRow, layer: Digest) -> bool:
        """Return whether the layer is compressed with zstd; those that V1 clients pushed are not."""
        if row.checksum:
            return False
        with self._lock:
            known = self._zstd.get(layer)
        if known is None:
            with suppress(BlobMissing), self.transcoding.state.store.open(layer) as reader:
                known = Compression.sniff(reader.read(len(Compression.ZSTD.value))) is Compression.ZSTD
                with self._lock:
                    self._zstd[layer] = known
        return bool(known)
