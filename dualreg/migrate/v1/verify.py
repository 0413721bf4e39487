"""Verify V1 images: ids, JSONs and layers, and whether V2 clients find all that manifests name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from dualreg.catalog.rows import ManifestRow, Origin, V1ImageRow
from dualreg.errors import BlobMissing, RegistryError
from dualreg.image.documents import parse_object
from dualreg.image.formats import Contents, Role
from dualreg.image.layer import empty_diff_ids
from dualreg.image.manifest import stored_contents
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.findings import Broken
from dualreg.migrate.plan import Entry
from dualreg.migrate.single_flight import SingleFlight
from dualreg.migrate.sources.base import SourceImage
from dualreg.migrate.verify import Bytes
from dualreg.registry import Registry


@dataclass
class V1Comparison:
    """A Comparison of V1 images. What many tags share is looked at once.

    Attributes:
        chain: Returns an image and its ancestors, base first; raises Broken.
        content: Reads layers, in the source and here; None: compare sizes only.
    """

    registry: Registry
    chain: Callable[[str], list[SourceImage]]
    content: Bytes | None
    _bytes: Bytes = field(init=False)
    _members: SingleFlight[object, tuple[str, ...]] = field(default_factory=SingleFlight)
    _manifests: SingleFlight[object, tuple[str, ...]] = field(default_factory=SingleFlight)

    def __post_init__(self) -> None:
        """Nothing was looked at yet."""
        self._bytes = self.content or Bytes(self.registry.blobs, quick=True)

    def problems(self, entry: Entry) -> Iterator[str]:
        """See Comparison."""
        try:
            repository, tag = RepositoryName.parse(entry.to_repository), Tag.parse(entry.to_tag)
            seen = self.registry.bridge.resolve(repository, tag)
            if seen != entry.image:
                yield f"the tag is another image here: {seen}"
                return
            chain = self.chain(entry.image)
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
            yield from self._members.get((repository, row.id), partial(self._member, member, row))
        manifest = self.registry.manifests.peek(repository, tag)  # `bridge` may hide it from V2 clients
        if manifest is None:
            yield "the tag is gone"
            return
        compare = partial(self._manifest, repository, manifest, rows)
        yield from self._manifests.get((repository, manifest.digest, seen), compare)

    def _member(self, member: SourceImage, row: V1ImageRow) -> tuple[str, ...]:
        """Return what is wrong with one image, wherever it stands."""
        try:
            if row.layer is None or self.registry.v1_images.json(row) != member.json():
                return (f"{row.id}: its JSON is another",)
        except BlobMissing:
            return (f"{row.id}: its JSON is not here",)
        except Broken as error:
            return (f"the source is broken: {error}",)
        if member.layer.size not in (0, row.layer_size or 0):
            return (f"{row.id}: its layer has {row.layer_size} bytes, not {member.layer.size}",)
        return tuple(self._bytes.problems(row.id, row.layer, lambda: member.layer))

    def _manifest(
        self, repository: RepositoryName, row: ManifestRow, chain: Sequence[V1ImageRow]
    ) -> tuple[str, ...]:
        """Return what V2 clients would miss: every byte of what they are sent is held against its digest."""
        if wrong := self._bytes.here(row.digest):
            return (f"its manifest {row.digest}: {wrong}",)
        contents = stored_contents(row.media_type, self.registry.manifests.payload(row))
        problems = [*self._children(repository, contents)]
        is_image = any(child.role is Role.CONFIG for child in contents.children)
        if problems or not is_image:
            return tuple(problems)
        return tuple(self._image(row, contents, chain))

    def _children(self, repository: RepositoryName, contents: Contents) -> Iterator[str]:
        for child in contents.children:
            digest, size = child.descriptor.digest, child.descriptor.size
            try:
                here = self.registry.blobs.stat(repository, digest)
            except RegistryError as error:
                yield f"{digest} of its manifest is not here: {error}"
                continue
            if size not in (None, here.size):
                yield f"{digest} of its manifest has {here.size} bytes here, not {size}"
            elif wrong := self._bytes.here(digest, here.size if child.role is Role.LAYER else None):
                yield f"{digest} of its manifest: {wrong}"

    def _image(self, row: ManifestRow, contents: Contents, chain: Sequence[V1ImageRow]) -> Iterator[str]:
        """Hold a manifest and its config against the V1 images that they shall be of."""
        (config,) = (child.descriptor.digest for child in contents.children if child.role is Role.CONFIG)
        layers = [child.descriptor.digest for child in contents.children if child.role is Role.LAYER]
        document = parse_object(self.registry.documents.read(config))
        named = document.get("rootfs", {}).get("diff_ids")
        # Layers without files are left out, unless there are no others, or a V2 client made the manifest.
        filled = [each for each in chain if each.diff_id not in empty_diff_ids()] or chain[:1]
        kept = chain if named == [str(each.diff_id) for each in chain] else filled
        if named != [str(each.diff_id) for each in kept] or len(layers) != len(kept):
            yield "its config and manifest do not name the files of its V1 images, in their order"
            return
        for digest, image in zip(layers, kept, strict=True):
            if self.content and digest != image.layer:
                inside = self.content.inside(digest)
                if inside != str(image.diff_id):
                    yield f"{digest} of its manifest: its files are {inside}, not {image.diff_id}"
        made = row.origin is Origin.V1 and all(each.checksum for each in chain)  # not by a V2 client
        steps = len(document.get("history") or ())
        if made and steps != len(chain):
            yield f"its history has {steps} steps, not {len(chain)}"
