"""Documents of this registry, verified against their digests."""

from dataclasses import dataclass

from dualreg.catalog.rows import ManifestRow
from dualreg.errors import BlobDamaged
from dualreg.image.digest import Digest
from dualreg.image.formats import Contents
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.registry import Registry


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest of this registry, verified against its digest."""

    payload: bytes
    contents: Contents


def read_document(registry: Registry, digest: Digest) -> bytes:
    """Return a manifest, config or V1 image JSON, verified against its digest.

    Raises:
        Broken: it is damaged.
        BlobMissing.
    """
    try:
        return registry.documents.read(digest)
    except BlobDamaged as error:
        raise Broken(FindingKind.CORRUPT, str(digest), "damaged in this registry") from error


def load_document(registry: Registry, row: ManifestRow) -> Document:
    """Return the manifest of a row.

    Raises:
        Broken: it is damaged.
        BlobMissing.
    """
    payload = read_document(registry, row.digest)
    return Document(payload, stored_contents(row.media_type, payload))


def is_blob_only(registry: Registry, repository: RepositoryName, digest: Digest) -> bool:
    """Return whether the repository has what an index names as a blob, and not as a manifest."""
    known = registry.manifests.peek(repository, digest)
    return known is None and registry.blobs.find(repository, digest) is not None
