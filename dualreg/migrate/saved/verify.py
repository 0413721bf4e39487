"""Verify saved images: configs byte for byte, and the files within layers."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from dualreg.errors import RegistryError
from dualreg.faults import BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.findings import Broken
from dualreg.migrate.intake import look
from dualreg.migrate.plan import Entry
from dualreg.migrate.saved.intake import config_of
from dualreg.migrate.saved.layers import diff_id_of
from dualreg.migrate.sources.docker_archive import SavedImages
from dualreg.registry import Registry


@dataclass
class SavedComparison:
    """A Comparison of saved images.

    Attributes:
        quick: Only configs, and whether layers are there.
    """

    registry: Registry
    source: SavedImages
    quick: bool

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
        here = look(self.registry, repository, tag)
        if here is None:
            yield "not here"
            return
        if config_of(self.registry, repository, here.digest) != entry.image:
            yield f"the tag is another image here: {here.digest}"
            return
        layers = self._layers(repository, here.digest)
        if len(layers) != len(image.diff_ids):
            yield f"it has {len(layers)} layers, not {len(image.diff_ids)}"
            return
        for digest, diff_id in zip(layers, image.diff_ids, strict=True):
            if wrong := self._layer(repository, digest, diff_id):
                yield f"{digest}: {wrong}"

    def _layers(self, repository: RepositoryName, manifest: Digest) -> list[Digest]:
        row = self.registry.manifests.find(repository, manifest)
        children = stored_contents(row.media_type, self.registry.manifests.payload(row)).children
        return [child.descriptor.digest for child in children if child.role is Role.LAYER]

    def _layer(self, repository: RepositoryName, digest: Digest, diff_id: Digest) -> str:
        try:
            self.registry.blobs.stat(repository, digest)
            if self.quick or digest in self._read:
                return self._read.get(digest, "")
            found = diff_id_of(self.registry.state.store.open(digest), str(digest))
            self._read[digest] = "" if found == diff_id else f"its files are {found}"
        except RegistryError:
            return "it is not here"
        except BlobMissing:
            self._read[digest] = "its bytes are not here"
        except Broken as error:
            self._read[digest] = error.finding.text
        return self._read[digest]

    @cached_property
    def _read(self) -> dict[Digest, str]:
        return {}
