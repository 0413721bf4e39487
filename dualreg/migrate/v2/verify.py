"""Verification of manifests, and of all that they name."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from sys import intern

from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import empty_layer
from dualreg.image.manifest import Manifest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.base import current_manifest
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.own_documents import is_blob_only
from dualreg.migrate.plan import Entry
from dualreg.migrate.single_flight import SingleFlight
from dualreg.migrate.sources.base import ManifestSource
from dualreg.migrate.v2.documents import read_manifest
from dualreg.migrate.verify import BlobComparison
from dualreg.registry import Registry


@dataclass
class V2Comparison:
    """A Comparison of manifests.

    Attributes:
        blobs: Compares what manifests name.
    """

    registry: Registry
    source: ManifestSource
    blobs: BlobComparison
    _manifests: SingleFlight[object, tuple[str, ...]] = field(default_factory=SingleFlight)

    def problems(self, entry: Entry) -> Iterator[str]:
        try:
            repository, digest = RepositoryName.parse(entry.to_repository), Digest.parse(entry.image)
            reference = Tag.parse(entry.to_tag) if entry.to_tag else digest
        except RegistryError as error:
            yield f"not found in this registry: {error}"
            return
        current = current_manifest(self.registry, repository, reference)
        if current is None:
            yield "not found in this registry"
        elif current.digest != digest:
            yield f"the tag points to another image: {current.digest}"
        else:
            yield from self._once(entry.repository, repository, digest)

    def _once(self, source: str, repository: RepositoryName, digest: Digest) -> tuple[str, ...]:
        """Return what is wrong with a manifest and all that it names; each is compared once."""
        compare = partial(self._manifest, source, repository, digest)
        key = source, intern(str(repository)), digest.packed  # of millions
        return self._manifests.get(key, lambda: tuple(compare()))

    def _manifest(self, source: str, repository: RepositoryName, digest: Digest) -> Iterator[str]:
        try:
            manifest = read_manifest(self.source, source, digest)
        except Broken as error:
            absent = error.finding.kind is FindingKind.MISSING_MANIFEST
            if not (absent and self.registry.manifests.rules.sparse_indexes):
                yield f"damaged in the source: {error}"
            return
        yield from self._document(repository, manifest)
        yield from self.blobs.derived_problems(self.registry.derived.blobs(repository, digest))
        yield from self._v1_images(source, repository, digest)
        for child in manifest.children:
            part = child.descriptor.digest
            if child.role is Role.MANIFEST and not is_blob_only(self.registry, repository, part):
                yield from self._once(source, repository, part)
            elif child in manifest.required:
                yield from self._blob(source, repository, part)

    def _document(self, repository: RepositoryName, manifest: Manifest) -> Iterator[str]:
        """Yield what is wrong with a manifest and its signatures; its digest is that of the source."""
        row = self.registry.manifests.peek(repository, manifest.digest)
        if row is None:
            yield f"manifest {manifest.digest}: not found in this registry"
            return
        if problem := self.blobs.stored_problem(row.digest):
            yield f"manifest {manifest.digest}: {problem}"
        signed = self.registry.manifests.signed(row)
        if signed and (problem := self.blobs.stored_problem(signed.digest)):
            yield f"manifest {manifest.digest}: its signatures: {problem}"

    def _v1_images(self, source: str, repository: RepositoryName, digest: Digest) -> Iterator[str]:
        """Yield what is wrong with the pushed V1 images that the manifest is seen as, or was made of.

        No manifest of the source need name them: in an import in place, its garbage collection deletes them.
        """
        row = self.registry.manifests.peek(repository, digest)
        image = self.registry.bridge.view_of(row) if row else None
        with suppress(Broken):  # it could not be imported
            chain = self.source.v1_chain(source, digest)
            if chain and image != chain[-1].id:
                yield f"V1 clients see {image or 'none'}, but {chain[-1].id} in the source"
        for each in self.registry.v1_images.peek_ancestry(repository, image) if image else ():
            parts = {"JSON": (each.json, None), "layer": (each.layer, each.layer_size)}
            for name, (blob, size) in parts.items() if each.checksum else ():
                if blob and (problem := self.blobs.stored_problem(blob, size)):
                    yield f"V1 image {each.id}: {name} {problem}"

    def _blob(self, source: str, repository: RepositoryName, digest: Digest) -> Iterator[str]:
        try:
            row = self.registry.blobs.stat(repository, digest)
        except RegistryError as error:
            yield f"not found in this registry: {error}"
            return
        if digest == empty_layer().digest:
            return
        if problem := self.blobs.stored_problem(digest, row.size):
            yield f"{digest}: {problem}"
        else:
            yield from self.blobs.problems(str(digest), digest, partial(self.source.blob, source, digest))
