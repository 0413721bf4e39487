"""What decides which clients can read an image of a source of manifests."""

from dataclasses import dataclass, replace

from dualreg.errors import RegistryError
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.facts import DAMAGED, Facts, facts_of
from dualreg.image.platform import Platform
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import ManifestSource
from dualreg.migrate.v2.documents import has_blob, read_manifest

#: How many bytes of a config are read.
_CONFIG_LIMIT = 4 << 20


def source_facts(source: ManifestSource, repository: str, digest: Digest, platform: Platform) -> Facts:
    """Return what decides who can read an image of *source*; no layer is read."""
    documents = _SourceDocuments(source, repository)
    try:
        manifest = read_manifest(source, repository, digest)
        facts = facts_of(manifest.media_type, manifest.payload, documents, platform)
    except (Broken, RegistryError, OSError, ValueError):
        return DAMAGED
    absent = not all(has_blob(source, repository, each) for each in facts.foreign)
    return replace(facts, lacks_foreign=absent and platform.os != "windows")


@dataclass(frozen=True, slots=True)
class _SourceDocuments:
    """The Documents of a repository of a source."""

    source: ManifestSource
    repository: str

    def manifest(self, entry: Descriptor) -> tuple[str, bytes] | None:
        try:
            found = read_manifest(self.source, self.repository, entry.digest)
        except Broken as error:
            if error.finding.kind is FindingKind.MISSING_MANIFEST:
                return None
            raise
        return found.media_type, found.payload

    def config(self, digest: Digest) -> bytes:
        with self.source.blob(self.repository, digest).open() as reader:
            return reader.read(_CONFIG_LIMIT)
