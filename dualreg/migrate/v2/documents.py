"""Manifests of a source, parsed and verified."""

from dualreg.errors import RegistryError
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats import schema1
from dualreg.image.manifest import Manifest, parse
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import ManifestSource, SourceManifest

#: How layers were identified before digests.
_TARSUM = b'"tarsum'


def read_manifest(source: ManifestSource, repository: str, digest: Digest) -> Manifest:
    """Return the manifest of *source* with that digest.

    ``Manifest.signed`` is None for schema 1 whose signatures were not kept.

    Raises:
        Broken: it is missing, invalid, or has another digest.
    """
    found = source.manifest(repository, digest)
    where = f"{repository}@{digest}"
    try:
        manifest = _unsigned(found) or parse(found.media_type, found.body, algorithm=digest.algorithm)
    except RegistryError as error:
        if _TARSUM in found.body:
            text = "it names layers by TarSum, as betas of 2.0 did; pull and push it again at the source"
            raise Broken(FindingKind.TARSUM, where, text) from error
        raise Broken(FindingKind.CORRUPT, where, str(error)) from error
    if manifest.digest != digest:
        raise Broken(FindingKind.CORRUPT, where, f"its digest is {manifest.digest}")
    return manifest


def _unsigned(found: SourceManifest) -> Manifest | None:
    """Return schema 1 without signatures, as the reference registry stores it; None for anything else."""
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
