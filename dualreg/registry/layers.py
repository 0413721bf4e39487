"""Layers: read through for what only their bytes tell, on behalf of clients, a few at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dualreg.catalog.rows import BlobRow
from dualreg.image.convert import V1Layer
from dualreg.image.digest import Digest
from dualreg.image.inflater import Compression
from dualreg.image.layer import is_padded, looks_padded, read_diff_id, regzip
from dualreg.image.names import RepositoryName
from dualreg.registry.inflating import InflatingSlots
from dualreg.registry.transcoding import Transcoding
from dualreg.registry.uploads import Uploads
from dualreg.storage.base import BlobStore, read_chunks

#: Bytes at the start of a layer that tell its compression.
_HEAD = 6


@dataclass(frozen=True, slots=True)
class Layers:
    """Reads layers through, and compresses anew what V2 clients cannot read."""

    store: BlobStore
    uploads: Uploads
    transcoding: Transcoding
    inflating: InflatingSlots

    def with_diff_ids(self, sizes: Mapping[Digest, int]) -> dict[Digest, V1Layer]:
        """Return layers with their diff IDs and compressions.

        Raises:
            ImageInvalid: a layer cannot be decompressed.
            BlobMissing: a layer is lost; none is read then.
            ServerBusy: too many layers are being read through.
        """
        for digest in sizes:
            self.store.open(digest).close()
        with self.inflating.slot():
            return {digest: V1Layer(digest, size, *self._read(digest)) for digest, size in sizes.items()}

    def for_v2(self, repository: RepositoryName, layer: BlobRow) -> tuple[BlobRow, Compression]:
        """Return a layer as V2 clients can read it, with its compression.

        It is stored anew as gzip if its compression has no media type, or if bytes follow the stream.

        Raises:
            ImageInvalid: it cannot be decompressed.
            BlobMissing: it is lost.
            ServerBusy: too many layers are being read through.
        """
        with self.store.open(layer.digest) as reader:
            compression = Compression.sniff(reader.read(_HEAD))
            has_type = compression in (Compression.GZIP, Compression.NONE)
            if has_type and not looks_padded(reader):
                return layer, compression
        if compression is Compression.ZSTD:
            with self.inflating.slot():  # of a push, which its client does not repeat
                own = replace(self.transcoding, patience=None).editions(repository, {layer.digest})
            return own[layer.digest], Compression.GZIP
        with self.inflating.slot(), self.store.open(layer.digest) as reader:
            if has_type and not is_padded(reader):
                return layer, compression
            reader.seek(0)
            return self.uploads.ingest(repository, regzip(read_chunks(reader))), Compression.GZIP

    def _read(self, layer: Digest) -> tuple[Digest, Compression]:
        with self.store.open(layer) as reader:
            return read_diff_id(read_chunks(reader))
