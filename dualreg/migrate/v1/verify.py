"""Verify V1 images: ids, JSONs and layers, and whether V2 clients find all that manifests name."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.manifest import parse
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.findings import Broken
from dualreg.migrate.plan import Entry
from dualreg.migrate.v1.survey import V1Survey
from dualreg.migrate.verify import Bytes
from dualreg.registry import Registry


@dataclass
class V1Comparison:
    """A Comparison of V1 images.

    Attributes:
        content: Reads layers, in the source and here; None: compare sizes only.
    """

    registry: Registry
    found: V1Survey
    content: Bytes | None

    def problems(self, entry: Entry) -> Iterator[str]:
        """See Comparison."""
        try:
            repository, tag = RepositoryName.parse(entry.to_repository), Tag.parse(entry.to_tag)
            seen = self.registry.bridge.resolve(repository, tag)
            if seen != entry.image:
                yield f"the tag is another image here: {seen}"
                return
            chain = self.found.chain(entry.image)
            rows = self.registry.v1_images.ancestry(repository, ImageId(seen))[::-1]
        except Broken as error:
            yield f"the source is broken: {error}"
            return
        except RegistryError as error:
            yield f"not here: {error}"
            return
        if [row.id for row in rows] != [member.id for member in chain]:
            yield "its ancestors are others"
            return
        for member, row in zip(chain, rows, strict=True):
            if row.layer is None or self.registry.v1_images.json(row) != member.json():
                yield f"{row.id}: its JSON is another"
            elif member.layer.size not in (0, row.layer_size or 0):
                yield f"{row.id}: its layer has {row.layer_size} bytes, not {member.layer.size}"
            elif self.content:
                yield from self.content.problems(row.id, row.layer, member.layer.open)
        yield from self._as_v2(repository, tag, [row.diff_id for row in rows])

    def _as_v2(
        self, repository: RepositoryName, tag: Tag, diff_ids: Iterable[Digest | None]
    ) -> Iterator[str]:
        """Look at the tag as V2 clients do: all that the manifest names is here, and of these files."""
        with self.registry.state.catalog.read() as tx:
            row = tx.manifests.find(repository, tag)  # whether the setting `bridge` shows it or not
        if row is None:
            yield "the tag is gone"
            return
        manifest = parse(row.media_type, self.registry.manifests.payload(row))
        for child in manifest.children:
            try:
                self.registry.blobs.stat(repository, child.descriptor.digest)
            except RegistryError as error:
                yield f"{child.descriptor.digest} of its manifest is not here: {error}"
        (config,) = manifest.described(Role.CONFIG)
        text = self.registry.manifests.payloads.read(config.digest).decode()
        layers = len(manifest.described(Role.LAYER))
        named = sum(str(diff_id) in text for diff_id in diff_ids)
        if named < layers:
            yield f"its config names {named} of {layers} layers' files"
