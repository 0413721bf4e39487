"""Holds: while a client pushes a V1 image, no other client may begin it with another JSON.

Requests do not say which JSON the layer that they bring belongs to.
"""

import math
from collections.abc import Iterable, Iterator
from datetime import timedelta

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.rows import V1ImageRow
from dualreg.errors import ImageExists, ImageInvalid, UploadBusy
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName
from dualreg.image.v1_image import CHAIN_LIMIT, V1Image

#: How long a client may send nothing of an image before its hold ends: between JSON and layer, Docker makes
#: an archive of the files, and compresses it.
HOLD = timedelta(minutes=5)


def is_begun(tx: Transaction, repository: RepositoryName, image: ImageId, json: Digest) -> bool:
    """Return whether the image has been begun with *json*, whose client then holds it anew.

    Raises:
        ImageExists: it is complete.
        UploadBusy: a client that has sent another JSON holds it.
    """
    begun = tx.v1_images.find(repository, image)
    if begun is None:
        return False
    if begun.complete:
        raise ImageExists(id=image)
    if begun.json == json:
        tx.v1_images.touch(begun)
        return True
    touched = tx.v1_images.touched_at(begun)
    left = touched + HOLD - tx.v1_images.now if touched else timedelta(0)
    if timedelta(0) < left <= 2 * HOLD:  # more is left only if the clock was set back
        raise UploadBusy(id=image, retry_after=math.ceil(left.total_seconds()))
    return False


def holding(catalog: Catalog, image: V1ImageRow, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield *chunks* of the layer of *image*, which the client that sends them holds meanwhile."""
    held_at = catalog.now()
    for chunk in chunks:
        if abs(catalog.now() - held_at) > HOLD / 10:
            with catalog.begin() as tx:
                tx.v1_images.touch(image)
            held_at = catalog.now()
        yield chunk


def check_parent(tx: Transaction, repository: RepositoryName, image: V1Image) -> None:
    """Refuse an image whose parent does not exist, or has the image itself as an ancestor.

    Raises:
        ImageInvalid.
    """
    if image.parent is None:
        return
    ancestry = tx.v1_images.ancestry(repository, image.parent)
    if not 0 < len(ancestry) < CHAIN_LIMIT or any(ancestor.id == image.id for ancestor in ancestry):
        raise ImageInvalid(reason="Image depends on a non existing parent")
