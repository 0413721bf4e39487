"""V1 views as the catalog records them: the images of a chain, and the documents that they need."""

from collections.abc import Iterable, Sequence

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import RepositoryRow, V1ImageRow
from dualreg.image.convert import Link
from dualreg.image.digest import Digest
from dualreg.image.layer import EMPTY_LAYER, empty_layer
from dualreg.registry.v1_images import V1Images


def record_missing(
    tx: Transaction, v1_images: V1Images, repository: RepositoryRow, images: Sequence[V1ImageRow]
) -> bool:
    """Record those of *images* that the repository does not have yet, as ``V1Images.record``.

    Return False, and record none, if a JSON or layer of theirs was deleted.
    """
    known = tx.v1_images.complete_ones(repository.id, [image.id for image in images])
    missing = [image for image in images if known.get(image.id) != image]
    needed = {digest for image in missing for digest in (image.json, image.layer) if digest}
    if needed - tx.blobs.linked(repository.id, needed).keys():
        return False
    v1_images.record(tx, repository, missing)
    return True


def missing_documents(images: Iterable[V1ImageRow], chain: Iterable[Link]) -> list[bytes]:
    """Return what has to be stored for *images*: JSONs of *chain* that they use, and the empty layer."""
    jsons = {Digest.of(link.image.json): link.image.json for link in chain}
    needed = {image.json: jsons[image.json] for image in images if image.json in jsons}
    empty = any(image.layer == empty_layer().digest for image in images)
    return [*needed.values(), *([EMPTY_LAYER] if empty else ())]
