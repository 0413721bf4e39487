"""Verify manifests: that all of them, and all that they name, are here as they were there."""

from collections.abc import Iterator
from dataclasses import dataclass

from dualreg.errors import RegistryError
from dualreg.faults import BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import empty_layer
from dualreg.image.manifest import Manifest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.findings import Broken, Kind
from dualreg.migrate.intake import look
from dualreg.migrate.plan import Entry
from dualreg.migrate.sources.base import ManifestSource
from dualreg.migrate.v2.documents import read_manifest
from dualreg.migrate.verify import Bytes
from dualreg.registry import Registry


@dataclass
class V2Comparison:
    """A Comparison of manifests.

    Attributes:
        content: Reads blobs, in the source and here; None: compare sizes only.
    """

    registry: Registry
    source: ManifestSource
    content: Bytes | None

    def problems(self, entry: Entry) -> Iterator[str]:
        """See Comparison."""
        try:
            repository, digest = RepositoryName.parse(entry.to_repository), Digest.parse(entry.image)
            reference = Tag.parse(entry.to_tag) if entry.to_tag else digest
        except RegistryError as error:
            yield f"not here: {error}"
            return
        here = look(self.registry, repository, reference)
        if here is None:
            yield "not here"
        elif here.digest != digest:
            yield f"the tag is another image here: {here.digest}"
        else:
            yield from self._manifest(entry.repository, repository, digest)

    def _manifest(self, source: str, repository: RepositoryName, digest: Digest) -> Iterator[str]:
        try:
            manifest = read_manifest(self.source, source, digest)
        except Broken as error:
            absent = error.finding.kind is Kind.MISSING_MANIFEST
            if not (absent and self.registry.manifests.sparse_indexes):
                yield f"the source is broken: {error}"
            return
        yield from self._document(repository, manifest)
        for child in manifest.children:
            if child.role is Role.MANIFEST:
                yield from self._manifest(source, repository, child.descriptor.digest)
            elif child in manifest.required:
                yield from self._blob(source, repository, child.descriptor.digest)

    def _document(self, repository: RepositoryName, manifest: Manifest) -> Iterator[str]:
        with self.registry.state.catalog.read() as tx:
            row = tx.manifests.find(repository, manifest.digest)
        try:
            if row is None:
                yield f"{manifest.digest}: the manifest is not here"
            elif self.registry.manifests.payload(row) != manifest.payload:
                yield f"{manifest.digest}: the manifest is another one here"
        except BlobMissing:
            yield f"{manifest.digest}: the bytes of the manifest are not here"

    def _blob(self, source: str, repository: RepositoryName, digest: Digest) -> Iterator[str]:
        try:
            row = self.registry.blobs.stat(repository, digest)
        except RegistryError as error:
            yield f"not here: {error}"
            return
        if self.content and digest != empty_layer().digest:
            yield from self.content.problems(
                str(digest), digest, lambda: self.source.blob(source, digest).open()
            )
        elif digest != empty_layer().digest and self.source.blob(source, digest).size not in (0, row.size):
            yield f"{digest}: it has {row.size} bytes here"
