"""Verify saved images: configs byte for byte, and the files within layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.findings import Broken
from dualreg.migrate.importer import current_manifest
from dualreg.migrate.plan import Entry
from dualreg.migrate.saved.importer import config_of
from dualreg.migrate.single_flight import SingleFlight
from dualreg.migrate.sources.docker_archive import SavedImages
from dualreg.migrate.verify import Bytes
from dualreg.registry import Registry


@dataclass
class SavedComparison:
    """A Comparison of saved images.

    Attributes:
        quick: Compare sizes only.
    """

    registry: Registry
    source: SavedImages
    quick: bool
    _bytes: Bytes = field(init=False)
    _images: SingleFlight[object, tuple[str, ...]] = field(default_factory=SingleFlight)

    def __post_init__(self) -> None:
        """Nothing was looked at yet."""
        self._bytes = Bytes(self.registry.blobs, quick=self.quick)

    def problems(self, entry: Entry) -> Iterator[str]:
        """See Comparison."""
        try:
            repository, tag = RepositoryName.parse(entry.to_repository), Tag.parse(entry.to_tag)
            image = self.source.image(entry.image)
        except Broken as error:
            yield f"the source is broken: {error}"
            return
        except RegistryError as error:
            yield f"not here: {error}"
            return
        here = current_manifest(self.registry, repository, tag)
        if here is None:
            yield "not here"
        elif wrong := self._bytes.here(here.digest):
            yield f"its manifest {here.digest}: {wrong}"
        elif config_of(self.registry, repository, here.digest) != entry.image:
            yield f"the tag is another image here: {here.digest}"
        else:
            look_once = partial(self._image, repository, here.digest, image.diff_ids)
            yield from self._images.get((repository, here.digest), look_once)

    def _image(
        self, repository: RepositoryName, manifest: Digest, diff_ids: Sequence[Digest]
    ) -> tuple[str, ...]:
        """Return what is wrong with the manifest of an image, its config and its layers."""
        row = self.registry.manifests.find(repository, manifest)
        children = stored_contents(row.media_type, self.registry.manifests.payload(row)).children
        layers = [child.descriptor.digest for child in children if child.role is Role.LAYER]
        if len(layers) != len(diff_ids):
            return (f"it has {len(layers)} layers, not {len(diff_ids)}",)
        expected = dict(zip(layers, diff_ids, strict=True))
        parts = (child.descriptor.digest for child in children)
        found = ((part, self._part(repository, part, expected.get(part))) for part in parts)
        return tuple(f"{part}: {wrong}" for part, wrong in found if wrong)

    def _part(self, repository: RepositoryName, digest: Digest, diff_id: Digest | None) -> str:
        """Return what is wrong with a config or, if it has a *diff_id*, a layer."""
        try:
            size = self.registry.blobs.stat(repository, digest).size
        except RegistryError:
            return "it is not here"
        if wrong := self._bytes.here(digest, size if diff_id else None):
            return wrong
        if diff_id is None or self.quick:
            return ""
        inside = self._bytes.inside(digest)
        return "" if inside == str(diff_id) else f"its files are {inside}"
