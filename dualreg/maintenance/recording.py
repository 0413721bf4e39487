"""Recording: the rows that names in a tree of link files become, for a rebuild and for a follower."""

from dualreg.catalog.rebuilding import FoundTag
from dualreg.catalog.rows import ORIGINS, Origin, V1ImageRow
from dualreg.image.manifest import Manifest, stored
from dualreg.storage import Store
from dualreg.storage.names import ManifestName, TagName, V1Name

#: Bytes of the largest manifest that is read; none that was accepted is larger.
_MANIFEST_LIMIT = 8 << 20


def read_manifest(store: Store, name: ManifestName) -> Manifest:
    """Return a manifest with the bytes of its digest.

    Raises:
        BlobMissing, OSError, ManifestInvalid.
    """
    with store.open(name.digest) as reader:
        payload = reader.read(_MANIFEST_LIMIT)
    return stored(name.media_type, payload, name.digest)


def v1_row(repository_id: int, image: V1Name) -> V1ImageRow:
    """Return the row of a V1 image, which is complete."""
    return V1ImageRow(
        repository_id,
        image.id,
        image.parent,
        image.json,
        image.layer,
        None,
        image.diff_id,
        image.checksum,
        complete=True,
        tarsum=image.tarsum,
        tarsum_verified=image.tarsum_verified,
    )


def tag_row(tag: TagName, assumed: Origin = Origin.V2) -> FoundTag:
    """Return the row of a tag.

    Args:
        assumed: By which generation it was pushed, if the tree does not say.
    """
    origin = Origin(tag.origin) if tag.origin in ORIGINS else assumed
    return FoundTag(tag.tag, tag.digest, tag.at, origin, tag.agent)
