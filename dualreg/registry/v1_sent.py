"""Layers that clients sent for a V1 image, of which each is found by what its client states of it."""

import logging
from dataclasses import dataclass, field
from typing import cast

from dualreg.catalog.rows import SentLayer, V1ImageRow
from dualreg.errors import BlobMissing, ChecksumMismatch, ImageIncomplete
from dualreg.image.digest import Digest
from dualreg.image.tarsum import verify_tarsum
from dualreg.messages import safe_line
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.inflating import InflatingSlots
from dualreg.registry.state import State
from dualreg.storage.base import read_chunks

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SentLayers:
    """Finds the layer of a checksum or a TarSum."""

    state: State
    documents: DocumentCache
    inflating: InflatingSlots = field(default_factory=InflatingSlots)

    def choose(self, row: V1ImageRow, payload: Digest | None, tarsum: str | None) -> SentLayer:
        """Return the layer that a client means by its checksum.

        Without *payload*, it is the one that *tarsum* is of, else that of the image.

        Raises:
            ImageIncomplete, ChecksumMismatch.
        """
        if row.layer is None or row.diff_id is None:
            raise ImageIncomplete(id=row.id)
        latest = SentLayer(row.layer, row.diff_id, row.checksum)
        if payload == row.checksum:
            return latest
        with self.state.catalog.read() as tx:
            others = tx.v1_images.sent(row)
        if payload:
            found = next((each for each in others if each.checksum == payload), None)
            was_compared = any(each.layer is None for each in others)
            if found is None and row.complete and row.checksum is None and was_compared:
                return latest  # derived before the layer came, with a JSON in other words than the client's
            if found is None:
                raise ChecksumMismatch(id=row.id, expected=str(row.checksum), stated=str(payload))
            return found
        different = [each for each in others if each.layer and each.diff_id != latest.diff_id]
        candidates = [latest, *different] if tarsum and different else []
        return next((each for each in candidates if self._agrees(str(tarsum), row, each)), latest)

    def is_tarsum_of(self, tarsum: str, row: V1ImageRow, sent: SentLayer) -> bool:
        """Return whether the TarSum that a client stated is that of the layer; a wrong one is logged."""
        agrees = self._agrees(tarsum, row, sent)
        if not agrees:
            _log.warning("image %s: layer does not match its TarSum %s", row.id, safe_line(tarsum))
        return agrees

    def _agrees(self, tarsum: str, row: V1ImageRow, sent: SentLayer) -> bool:
        try:
            with self.inflating.slot(), self.state.store.open(cast("Digest", sent.layer)) as layer:
                return verify_tarsum(tarsum, self.documents.read(row.json), read_chunks(layer))
        except BlobMissing:  # another layer than that of the image goes when it is garbage
            return False
