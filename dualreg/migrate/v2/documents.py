"""Manifests of a source, parsed and verified."""

import json

from dualreg.errors import RegistryError
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats import FORMATS, schema1
from dualreg.image.manifest import Manifest, parse
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import ManifestSource, SourceManifest

#: Media types of entries of an index that are manifests if they are there as such.
_MANIFESTS = frozenset({*FORMATS, *media_types.SCHEMA1_TYPES, ""})
#: How layers were identified before digests.
_TARSUM = b'"tarsum'


class NoManifest(Broken):
    """What should be a manifest is whole, but not even a JSON object; an index may list it as a blob.

    Attributes:
        size: Of it, in bytes.
    """

    def __init__(self, where: str, text: str, size: int) -> None:
        super().__init__(FindingKind.CORRUPT, where, text)
        self.size = size


def read_manifest(source: ManifestSource, repository: str, digest: Digest) -> Manifest:
    """Return the manifest of *source* with that digest.

    ``Manifest.signed`` is None for schema 1 whose signatures were not kept.

    Raises:
        Broken: it is missing, invalid, or has another digest; NoManifest, if it is something else.
    """
    found = source.manifest(repository, digest)
    where = f"{repository}@{digest}"
    try:
        manifest = _unsigned(found) or parse(found.media_type, found.body, algorithm=digest.algorithm)
    except RegistryError as error:
        if _TARSUM in found.body:
            text = "it names layers by TarSum, as betas of 2.0 did; pull and push it again at the source"
            raise Broken(FindingKind.TARSUM, where, text) from error
        if not _is_object(found.body) and Digest.of(found.body, digest.algorithm) == digest:
            raise NoManifest(where, str(error), len(found.body)) from error
        raise Broken(FindingKind.CORRUPT, where, str(error)) from error
    if manifest.digest != digest:
        raise Broken(FindingKind.CORRUPT, where, f"its digest is {manifest.digest}")
    return manifest


def read_entry(source: ManifestSource, repository: str, entry: Descriptor) -> Manifest | None:
    """Return the manifest that an index lists; None if it is a blob of the source, as in build caches.

    Raises:
        Broken: it is neither, or a manifest that is invalid.
    """
    if is_blob(source, repository, entry):
        return None
    try:
        return read_manifest(source, repository, entry.digest)
    except Broken as error:
        other = isinstance(error, NoManifest) or error.finding.kind is FindingKind.MISSING_MANIFEST
        if other and has_blob(source, repository, entry.digest):
            return None
        raise


def has_entry(source: ManifestSource, repository: str, digest: Digest) -> bool:
    """Return whether the source has what an index lists, as a manifest or as a blob."""
    try:
        source.manifest(repository, digest)
    except Broken:
        return has_blob(source, repository, digest)
    return True


def is_blob(source: ManifestSource, repository: str, entry: Descriptor) -> bool:
    """Return whether an entry of an index says that it is no manifest, and is a blob of the source."""
    return entry.media_type not in _MANIFESTS and has_blob(source, repository, entry.digest)


def has_blob(source: ManifestSource, repository: str, digest: Digest) -> bool:
    """Return whether the source has the blob; it is not read."""
    try:
        source.blob(repository, digest)
    except Broken:
        return False
    return True


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False


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
