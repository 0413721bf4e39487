"""Verification of saved images: configs by their digests, layers by their diff IDs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.base import current_manifest
from dualreg.migrate.findings import Broken
from dualreg.migrate.plan import Entry
from dualreg.migrate.saved.importer import config_of
from dualreg.migrate.single_flight import SingleFlight
from dualreg.migrate.sources.docker_archive import SavedImages
from dualreg.migrate.verify import BlobComparison
from dualreg.registry import Registry


@dataclass
class SavedComparison:
    """A Comparison of saved images.

    Attributes:
        blobs: Checks what manifests name.
    """

    registry: Registry
    source: SavedImages
    blobs: BlobComparison
    _images: SingleFlight[object, tuple[str, ...]] = field(default_factory=SingleFlight)

    def problems(self, entry: Entry) -> Iterator[str]:
        try:
            repository, tag = RepositoryName.parse(entry.to_repository), Tag.parse(entry.to_tag)
            image = self.source.image(entry.image)
        except Broken as error:
            yield f"damaged in the source: {error}"
            return
        except RegistryError as error:
            yield f"not found in this registry: {error}"
            return
        current = current_manifest(self.registry, repository, tag)
        if current is None:
            yield "not found in this registry"
        elif problem := self.blobs.stored_problem(current.digest):
            yield f"manifest {current.digest}: {problem}"
        elif config_of(self.registry, repository, current.digest) != entry.image:
            yield f"the tag points to another image: {current.digest}"
        else:
            compare = partial(self._image, repository, current.digest, image.diff_ids)
            yield from self._images.get((repository, current.digest), compare)

    def _image(
        self, repository: RepositoryName, manifest: Digest, diff_ids: Sequence[Digest]
    ) -> tuple[str, ...]:
        """Return what is wrong with the manifest of an image, its config and its layers."""
        row = self.registry.manifests.find(repository, manifest)
        children = stored_contents(row.media_type, self.registry.manifests.payload(row)).children
        layers = [child.descriptor.digest for child in children if child.role is Role.LAYER]
        if len(layers) != len(diff_ids):
            return (f"has {len(layers)} layers, expected {len(diff_ids)}",)
        expected = dict(zip(layers, diff_ids, strict=True))
        parts = (child.descriptor.digest for child in children)
        found = ((part, self._part(repository, part, expected.get(part))) for part in parts)
        return tuple(f"{part}: {problem}" for part, problem in found if problem)

    def _part(self, repository: RepositoryName, digest: Digest, diff_id: Digest | None) -> str:
        """Return what is wrong with a layer or, without a *diff_id*, a config; empty if nothing is."""
        try:
            size = self.registry.blobs.stat(repository, digest).size
        except RegistryError:
            return "not found in this registry"
        if problem := self.blobs.stored_problem(digest, size if diff_id else None):
            return problem
        if diff_id is None or self.blobs.quick:
            return ""
        found = self.blobs.diff_id(digest)
        return "" if found == str(diff_id) else f"diff ID {found}, expected {diff_id}"
