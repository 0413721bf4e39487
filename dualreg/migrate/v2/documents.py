"""Documents: a source's manifests, as a registry may take them in."""

from dualreg.errors import RegistryError
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats import schema1
from dualreg.image.manifest import Manifest, parse
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import ManifestSource, SourceManifest

#: What layers were called before they had digests.
_TARSUM = b'"tarsum'


def read_manifest(source: ManifestSource, repository: str, digest: Digest) -> Manifest:
    """Return a manifest of *source*, whose bytes are what *digest* is of.

    Schema 1 whose signatures were not kept has none: ``Manifest.signed`` is None.

    Raises:
        Broken: it is not there, is another one, or makes no sense.
    """
    found = source.manifest(repository, digest)
    where = f"{repository}@{digest}"
    try:
        manifest = _unsigned(found) or parse(found.media_type, found.body, algorithm=digest.algorithm)
    except RegistryError as error:
        if _TARSUM in found.body:
            text = "it names layers by TarSum, as betas of release 2.0 did; pull and push it there once more"
            raise Broken(FindingKind.TARSUM, where, text) from error
        raise Broken(FindingKind.CORRUPT, where, str(error)) from error
    if manifest.digest != digest:
        raise Broken(FindingKind.CORRUPT, where, f"its bytes are {manifest.digest}")
    return manifest


def _unsigned(found: SourceManifest) -> Manifest | None:
    """Return schema 1 without signatures, as the reference registry keeps it; None: it is something else."""
    if found.media_type not in ("", *media_types.SCHEMA1_TYPES):
        return None
    try:
        document = parse_object(found.body)
    except ValueError:
        return None
    if document.get("schemaVersion") != 1 or "signatures" in document:
        return None
    contents = schema1.contents(document)
    return Manifest(media_types.SCHEMA1_SIGNED, found.body, Digest.of(found.body), contents)
