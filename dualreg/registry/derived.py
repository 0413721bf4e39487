"""Derived: what it takes to see manifests as V1 images that nobody pushed, and V1 images as manifests."""

from collections.abc import Iterable, Mapping, Sequence

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import RepositoryRow, V1ImageRow
from dualreg.errors import ImageExists
from dualreg.image import media_types
from dualreg.image.convert import Link, V1Layer
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.layer import Compression, DiffIdHasher, blank_diff_ids
from dualreg.image.names import ImageId, RepositoryName
from dualreg.storage.base import BlobStore, read_chunks

#: Bytes of the largest config that is read whole; no daemon writes one near this.
CONFIG_LIMIT = 4 << 20


def is_readable_config(config: Descriptor) -> bool:
    """Tell whether the config is that of an image, and small enough to be read whole."""
    return config.media_type in media_types.IMAGE_CONFIGS and (config.size or 0) <= CONFIG_LIMIT


def read_layers(store: BlobStore, sizes: Mapping[Digest, int]) -> dict[Digest, V1Layer]:
    """Read layers through, for what is inside; return them by their digests.

    Raises:
        ImageInvalid: one does not decompress.
    """
    layers = {}
    for digest, size in sizes.items():
        hasher = DiffIdHasher()
        with store.open(digest) as layer:
            for chunk in read_chunks(layer):
                hasher.update(chunk)
        diff_id = hasher.digest()
        layers[digest] = V1Layer(digest, size, diff_id, hasher.compression or Compression.NONE)
    return layers


def derived_rows(repository: RepositoryRow, chain: Iterable[Link]) -> list[V1ImageRow]:
    """Return the catalog's form of a derived chain. There is no checksum: nobody sent these images."""
    return [
        V1ImageRow(
            repository.id,
            link.image.id,
            link.image.parent,
            Digest.of(link.image.json),
            link.layer.digest,
            link.layer.size,
            link.layer.diff_id,
            checksum=None,
            complete=True,
        )
        for link in chain
    ]


def filled(ancestry: Sequence[V1ImageRow]) -> Sequence[V1ImageRow]:
    """Return those of an image and its ancestors whose layers a manifest names.

    It leaves out layers without files, unless there are no others: then the base's is named.
    """
    return [row for row in ancestry if row.diff_id not in blank_diff_ids()] or ancestry[-1:]


def check_sole(tx: Transaction, repository: RepositoryName, manifest: Digest) -> None:
    """Raise ImageExists if a manifest, which is made for another image, is that of one that a client pushed.

    The other's tags would be seen as this one from then on. An image that was derived gives way.
    """
    row = tx.manifests.find(repository, manifest)
    seen = tx.views.find(row.repository_id, manifest) if row else None
    image = tx.v1_images.find(repository, ImageId(seen)) if seen else None
    if image and image.checksum:
        raise ImageExists(id=image.id)
