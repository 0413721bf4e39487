"""Verification of V1 images: IDs, JSONs, layers, and what the manifests made of them name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from dualreg.catalog.rows import ManifestRow, Origin, V1ImageRow
from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats import Contents, Role
from dualreg.image.layer import empty_diff_ids, have_same_files
from dualreg.image.manifest import stored_contents
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.v1_meaning import mean_the_same
from dualreg.migrate.findings import Broken
from dualreg.migrate.plan import Entry
from dualreg.migrate.single_flight import SingleFlight
from dualreg.migrate.sources.base import SourceImage
from dualreg.migrate.v1.layers import read_layer
from dualreg.migrate.verify import BlobComparison
from dualreg.registry import Registry


@dataclass
class V1Comparison:
    """A Comparison of V1 images; what several tags share is compared once.

    Attributes:
        chain: Returns an image of the source and its ancestors, base first; raises Broken.
        blobs: Compares JSONs and layers.
    """

    registry: Registry
    chain: Callable[[str], list[SourceImage]]
    blobs: BlobComparison
    _members: SingleFlight[object, tuple[str, ...]] = field(default_factory=SingleFlight)
    _manifests: SingleFlight[object, tuple[str, ...]] = field(default_factory=SingleFlight)

    def problems(self, entry: Entry) -> Iterator[str]:
        try:
            repository, tag = RepositoryName.parse(entry.to_repository), Tag.parse(entry.to_tag)
            seen = self.registry.bridge.resolve(repository, tag)
            if seen != entry.image:
                yield f"the tag points to another image: {seen}"
                return
            chain = self.chain(entry.image)
            rows = self.registry.v1_images.ancestry(repository, ImageId(seen))[::-1]
        except Broken as error:
            yield f"damaged in the source: {error}"
            return
        except RegistryError as error:
            yield f"not found in this registry: {error}"
            return
        if [row.id for row in rows] != [member.id for member in chain]:
            yield "the ancestors of the image differ"
            return
        for member, row in zip(chain, rows, strict=True):
            yield from self._members.get((repository, row.id), partial(self._member, member, row))
        manifest = self.registry.manifests.peek(repository, tag)  # `bridge` may hide it from V2 clients
        if manifest is None:
            yield "the tag no longer exists"
            return
        compare = partial(self._manifest, repository, manifest, rows)
        derived = self.registry.derived.blobs(repository, manifest.digest)
        yield from self._manifests.get((repository, manifest.digest, seen), compare)
        yield from self.blobs.derived_problems(derived)

    def _member(self, member: SourceImage, row: V1ImageRow) -> tuple[str, ...]:
        """Return what is wrong with one image of a chain."""
        if problem := self.blobs.stored_problem(row.json):
            return (f"{row.id}: JSON {problem}",)
        try:
            if row.layer is None or not mean_the_same(self.registry.v1_images.json(row), member.json()):
                return (f"{row.id}: JSON differs from the source",)
        except Broken as error:
            return (f"damaged in the source: {error}",)
        return self._layer(member, row, row.layer)

    def _layer(self, member: SourceImage, row: V1ImageRow, layer: Digest) -> tuple[str, ...]:
        """Return what is wrong with the layer of an image; another release may have compressed it."""
        if member.layer.known_size in (None, row.layer_size or 0):
            problems = tuple(self.blobs.problems(member.id, layer, lambda: member.layer))
        else:
            sizes = f"{row.layer_size} bytes, but {member.layer.size} in the source"
            problems = (f"{row.id}: layer has {sizes}",)
        if problems and _has_files_of(member, row):
            damage = self.blobs.stored_problem(layer, row.layer_size)
            return (f"{row.id}: {damage}",) if damage else ()
        return problems

    def _manifest(
        self, repository: RepositoryName, row: ManifestRow, chain: Sequence[V1ImageRow]
    ) -> tuple[str, ...]:
        """Return what is wrong for V2 clients: with the manifest and all that it names."""
        if problem := self.blobs.stored_problem(row.digest):
            return (f"manifest {row.digest}: {problem}",)
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
                stored = self.registry.blobs.stat(repository, digest)
            except RegistryError as error:
                yield f"{digest} in its manifest: {error}"
                continue
            expected = stored.size if child.role is Role.LAYER else None
            if size not in (None, stored.size):
                yield f"{digest} in its manifest: has {stored.size} bytes, expected {size}"
            elif problem := self.blobs.stored_problem(digest, expected):
                yield f"{digest} in its manifest: {problem}"

    def _image(self, row: ManifestRow, contents: Contents, chain: Sequence[V1ImageRow]) -> Iterator[str]:
        """Compare a manifest and its config with the V1 images that they were made from."""
        (config,) = (child.descriptor.digest for child in contents.children if child.role is Role.CONFIG)
        layers = [child.descriptor.digest for child in contents.children if child.role is Role.LAYER]
        document = parse_object(self.registry.documents.read(config))
        named = document.get("rootfs", {}).get("diff_ids")
        # A manifest leaves out empty layers, unless there are no others, or a V2 client made it.
        non_empty = [each for each in chain if each.diff_id not in empty_diff_ids()] or chain[:1]
        kept = chain if named == [str(each.diff_id) for each in chain] else non_empty
        if named != [str(each.diff_id) for each in kept] or len(layers) != len(kept):
            yield "config and manifest do not list the layers of the V1 images in their order"
            return
        for digest, image in zip(layers, kept, strict=True):
            if not self.blobs.quick and digest != image.layer:
                diff_id = self.blobs.diff_id(digest)
                if diff_id != str(image.diff_id):
                    yield f"{digest} in its manifest: diff ID {diff_id}, expected {image.diff_id}"
        made = row.origin is Origin.V1 and all(each.checksum for each in chain)  # not by a V2 client
        steps = len(document.get("history") or ())
        if made and steps != len(chain):
            yield f"history has {steps} steps, expected {len(chain)}"


def _has_files_of(member: SourceImage, row: V1ImageRow) -> bool:
    """Return whether the layer of *member*, which is read, has the files of the image in this registry."""
    try:
        return have_same_files(row.diff_id, Digest.parse(read_layer(member).diff_id))
    except Broken:
        return False
