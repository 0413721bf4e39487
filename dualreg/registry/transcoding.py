"""Transcoding: layers that are compressed with zstd, as gzip for clients that cannot read that.

Docker reads zstd since 23.0. The gzip edition of a layer uncompresses to the same bytes, so diff IDs and
configs stay as they are. It is made once, stored like any blob, and recorded for all repositories.
"""

import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import BlobRow, RepositoryRow
from dualreg.errors import BlobDamaged, BlobUnknown, ImageInvalid
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest, Hasher
from dualreg.image.layer import DiffIdHasher, regzip
from dualreg.image.media_types import ZSTD_TO_GZIP
from dualreg.image.names import RepositoryName
from dualreg.registry.inflating import InflatingSlots
from dualreg.registry.state import State
from dualreg.registry.uploads import Uploads
from dualreg.storage.base import read_chunks, tee

#: What the bytes of gzip editions depend on: the rules of ``image.layer.regzip``, and the library.
MADE_BY = f"1 zlib {zlib.ZLIB_RUNTIME_VERSION}"


@dataclass(frozen=True, slots=True)
class Transcoding:
    """Makes the gzip editions of layers, and finds those that were made."""

    state: State
    uploads: Uploads
    inflating: InflatingSlots

    def gzipped(
        self, repository: RepositoryName, layers: Sequence[Descriptor]
    ) -> Mapping[Digest, Descriptor]:
        """Return the gzip editions of those of *layers* that are zstd, by the digests of these.

        They are blobs of the repository, which has the *layers*. One that another repository has is shared.

        Raises:
            ImageInvalid: a layer cannot be uncompressed.
            BlobUnknown: the repository does not have it, or not any longer.
            BlobMissing, BlobDamaged: its bytes are lost or damaged.
            ServerBusy: too many layers are being read through.
        """
        types = {
            each.digest: ZSTD_TO_GZIP[each.media_type] for each in layers if each.media_type in ZSTD_TO_GZIP
        }
        with self.state.catalog.read() as tx:
            made = tx.transcoded.find(types)
            known = tx.blobs.known(repository, [blob.digest for blob in made.values()])
        own = {source: blob for source, blob in made.items() if known[blob.digest][1]}
        for source in types.keys() - own.keys():
            shared = source in made and self._share(repository, source, made[source])
            own[source] = made[source] if shared else self._transcode(repository, source)
        return {source: Descriptor(types[source], own[source].digest, own[source].size) for source in types}

    def _share(self, repository: RepositoryName, source: Digest, blob: BlobRow) -> bool:
        """Link the gzip edition of a layer to the repository; return False if its bytes are lost."""
        try:
            with self.state.arriving(repository, (None, blob)) as arriving, self.state.begin() as tx:
                arriving.admit(tx, self._holder(tx, repository, source))
        except BlobDamaged:
            return False
        return True

    def _transcode(self, repository: RepositoryName, source: Digest) -> BlobRow:
        """Make the gzip edition of a layer, store it and record it."""
        hasher = Hasher()
        with self.inflating.slot(), self.uploads.staging() as staged:
            size = staged.write(tee(self._gzip(source), hasher.update))
            blob = BlobRow(hasher.digest(), size)
            with self.state.arriving(repository, (staged.upload, blob)) as arriving, self.state.begin() as tx:
                arriving.admit(tx, self._holder(tx, repository, source))
                tx.transcoded.record(source, blob.digest, MADE_BY)
        return blob

    def _holder(self, tx: Transaction, repository: RepositoryName, source: Digest) -> RepositoryRow:
        """Return the repository, locked against deletion, if it may read the layer."""
        row = tx.repositories.lock(repository)
        if row is None or not tx.blobs.hold(row.id, source):
            raise BlobUnknown(digest=str(source))
        return row

    def _gzip(self, source: Digest) -> Iterator[bytes]:
        """Yield the gzip edition of a layer; raise after its end unless all was read and written right."""
        stored, inside, made = Hasher(source.algorithm), Hasher(), DiffIdHasher()
        with self.state.store.open(source) as reader:
            chunks = tee(read_chunks(reader), stored.update)
            try:
                yield from tee(regzip(chunks, inside.update), made.update)
            except ImageInvalid as error:
                deque(chunks, maxlen=0)
                self._require(source, stored)
                raise ImageInvalid(reason=f"layer {source} cannot be read: {error.reason}") from error
        self._require(source, stored)
        if made.digest() != inside.digest():
            raise BlobDamaged(f"{source}: its gzip edition uncompresses to other bytes")

    def _require(self, source: Digest, stored: Hasher) -> None:
        """Raise BlobDamaged unless the stored bytes of a layer have its digest."""
        if stored.digest() != source:
            raise BlobDamaged(f"{source}: its stored bytes have another digest")
