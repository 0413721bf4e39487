"""Removal: what goes from a repository together with a manifest."""

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import RepositoryRow
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId
from dualreg.registry.state import State


def remove_manifest(
    state: State, tx: Transaction, repository: RepositoryRow, digest: Digest
) -> tuple[Digest, ...]:
    """Delete a manifest, and what was derived from it alone, in a repository that is locked exclusively.

    Return the blobs of these documents, which stay linked. They, and what the manifest names, become
    candidates of the garbage collection.
    """
    view = tx.views.find(repository.id, digest)
    derived = [blob.digest for blob in tx.derivations.conversions(repository.id, digest)]
    tx.manifests.remove(repository.id, digest)
    unused = tx.garbage.unused_manifests(repository.id, derived) if derived else ()
    for each in unused:
        tx.manifests.remove(repository.id, each)
    images = tx.v1_images.prune(repository, ImageId(view)) if view else ()
    gone = (digest, *unused)
    state.links.remove_v1_images(repository.name, *(image.id for image in images))
    for each in gone:
        state.links.remove_manifest(repository.name, each)
    return (*gone, *(image.json for image in images))
