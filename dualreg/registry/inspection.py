"""Inspection: one image in words: its platforms, config, layers, tags, and what is attached to it."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualreg.catalog.rows import ManifestRow
from dualreg.errors import BlobDamaged, BlobMissing, ManifestUnknown
from dualreg.image import media_types
from dualreg.image.convert import CONFIG_LIMIT
from dualreg.image.description import Description, Step, describe, steps_of, v1_documents, v1_step
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats import Role
from dualreg.image.layered import Annotated, annotated_entries
from dualreg.image.manifest import Manifest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.platform import LINUX_AMD64, Platform, choose
from dualreg.image.signatures.checking import Checking
from dualreg.image.signatures.trust import Trust
from dualreg.image.signatures.verdict import Target
from dualreg.patterns import EVERYWHERE, Reach
from dualreg.registry.attachments import Attachment, Attachments, reference_of
from dualreg.registry.bridge import Bridge
from dualreg.registry.finding import Budget

#: Tags, entries and attachments that are shown, of each at most.
_LIMIT = 100
#: Layers of an image of which it is counted how many images have them: as many as Docker can stack.
_SHARING = 128
#: How people name a digest, without its algorithm.
_BEGINNING = re.compile(r"[0-9a-f]{4,128}|", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """A manifest that an index lists.

    Attributes:
        platform: As ``OS/ARCHITECTURE``; empty: none is given.
        size: Of the image with its layers, in bytes; None: it is not in the repository.
        about: The entry of the same index to which it is attached; None: it is an image.
    """

    digest: Digest
    media_type: str
    platform: str
    size: int | None
    about: Digest | None


@dataclass(frozen=True, slots=True)
class LayerSharing:
    """How many images have a layer of an image, this one included.

    Attributes:
        images: Manifests, but for those that were made here of another one of them.
        v1_images: V1 images of which it is the layer.
        more: Whether there may be more of both than were counted.
    """

    layer: Digest
    images: int
    v1_images: int
    more: bool


@dataclass(frozen=True, slots=True)
class Image:
    """A runnable image.

    Attributes:
        size: Of its manifest, config and layers, in bytes.
        description: What its config says; None: that is lost, or too large.
        steps: How it was built, the first step first.
        v1_image: Its ID for V1 clients; None: it has none yet.
        pushed_chain: Whether V1 clients pushed it.
        sharing: Of each of its first layers that is here, who else has it.
    """

    digest: Digest
    media_type: str
    size: int
    description: Description | None
    steps: tuple[Step, ...]
    v1_image: ImageId | None
    pushed_chain: bool
    sharing: tuple[LayerSharing, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a tag or digest names.

    Attributes:
        size: Of the manifest, in bytes.
        artifact_type: Of what is no image; empty: it is one, or says nothing.
        tags: Those that point at it, in byte order.
        entries: What it lists, if it is an index.
        image: The image, or the one of the index for the platform that was asked for; None: there is none.
        attachments: What is attached to it, and to that image.
        more: Of which of these lists there is more.
    """

    repository: RepositoryName
    digest: Digest
    media_type: str
    size: int
    artifact_type: str
    annotations: Mapping[str, str]
    tags: tuple[str, ...]
    entries: tuple[Entry, ...]
    image: Image | None
    attachments: tuple[Attachment, ...]
    more: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageLayers:
    """The layers of an image, the base first; of one that V1 clients pushed, those that they pushed."""

    reference: str
    image: Digest
    layers: tuple[Digest, ...]

    def position(self, wanted: str) -> int:
        """Return where a layer is.

        Args:
            wanted: Its digest, or the beginning of that without the algorithm; empty: the last one.

        Raises:
            DigestInvalid: it is neither.
            ManifestUnknown: the image has no such layer.
            ValueError: it has several.
        """
        if not _BEGINNING.fullmatch(wanted):
            wanted = Digest.parse(wanted).hex
        found = [each for each in dict.fromkeys(self.layers) if each.hex.startswith(wanted)]
        if not found:
            reason = f"it has no layer {wanted}" if wanted else "it has no layers"
            raise ManifestUnknown(reference=self.reference, reason=reason)
        if wanted and len(found) > 1:
            raise ValueError(f"several layers begin with {wanted}; give more of the digest")
        return self.layers.index(found[0]) if wanted else len(self.layers) - 1


@dataclass(frozen=True, slots=True)
class Inspection:
    """Describes images by their documents; nothing is changed."""

    bridge: Bridge
    attachments: Attachments

    def inspect(
        self,
        repository: RepositoryName,
        reference: Tag | Digest,
        platform: Platform,
        trust: Trust,
        reach: Reach = EVERYWHERE,
    ) -> Inspected:
        """Return what a tag or digest of this registry names.

        Args:
            platform: Of an index, the image for this platform is described.
            trust: What signatures are verified by.
            reach: The repositories whose images count where layers are shared.

        Raises:
            ManifestUnknown: there is no such one, or its bytes are lost.
        """
        row, manifest = self._load(repository, reference)
        listed = annotated_entries(manifest.payload) if row.media_type in media_types.INDEXES else []
        image_row = self._image_row(repository, row, manifest, platform)
        image = self._image(repository, image_row, reach) if image_row else None
        tags, attached = self._tags(row), self._attached(repository, [row, image_row], listed, trust)
        counts = {"tags": len(tags), "entries": len(listed), "attachments": len(attached)}
        return Inspected(
            repository=repository,
            digest=row.digest,
            media_type=row.media_type,
            size=row.size,
            artifact_type="" if image or listed else manifest.artifact_type,
            annotations=manifest.annotations,
            tags=tuple(tags[:_LIMIT]),
            entries=tuple(self._entries(repository, listed[:_LIMIT])),
            image=image,
            attachments=tuple(attached[:_LIMIT]),
            more=tuple(name for name, count in counts.items() if count > _LIMIT),
        )

    def layers(self, repository: RepositoryName, reference: Tag | Digest, platform: Platform) -> ImageLayers:
        """Return the layers of an image, or of the one of an index for a platform.

        Raises:
            ManifestUnknown: there is none, or its bytes are lost.
        """
        row, manifest = self._load_image(repository, reference, platform)
        view = self.bridge.view_of(row)
        pushed = [each.layer for each in (self._pushed_steps(repository, view) if view else ()) if each.layer]
        layers = pushed or [each.digest for each in manifest.described(Role.LAYER)]
        return ImageLayers(str(reference), row.digest, tuple(layers))

    def described(self, repository: RepositoryName, reference: Tag | Digest, platform: Platform) -> Image:
        """Return an image, or the one of an index for a platform, without who else has its layers.

        Raises:
            ManifestUnknown: there is none, or its bytes are lost.
        """
        row, _ = self._load_image(repository, reference, platform)
        image = self._image(repository, row, None)
        if image is None:
            raise ManifestUnknown(reference=str(reference), reason="what describes it is lost")
        return image

    def _load_image(
        self, repository: RepositoryName, reference: Tag | Digest, platform: Platform
    ) -> tuple[ManifestRow, Manifest]:
        """Return an image, or the one of an index for a platform; raise ManifestUnknown if there is none."""
        found, manifest = self._load(repository, reference)
        row = self._image_row(repository, found, manifest, platform)
        if row is None:
            reason = f"the repository has no image of it for {platform}"
            raise ManifestUnknown(reference=str(reference), reason=reason)
        return (row, manifest) if row == found else self._load(repository, row.digest)

    def _load(self, repository: RepositoryName, reference: Tag | Digest) -> tuple[ManifestRow, Manifest]:
        """Return what a tag or digest names; raise ManifestUnknown if there is no such, or it is lost."""
        manifests = self.bridge.manifests
        row = manifests.peek(repository, reference)
        if row is None:
            raise ManifestUnknown(reference=str(reference))
        try:
            return row, manifests.load(row)
        except (BlobMissing, BlobDamaged) as error:
            raise ManifestUnknown(reference=str(reference), reason=str(error)) from error

    def default_image(self, repository: RepositoryName, row: ManifestRow) -> ManifestRow | None:
        """Return the manifest of an image, or of the linux/amd64 image of an index; None: it is not here.

        Raises:
            BlobMissing, BlobDamaged: the bytes are lost.
        """
        return self._image_row(repository, row, self.bridge.manifests.load(row), LINUX_AMD64)

    def steps(self, image: ManifestRow) -> tuple[Step, ...]:
        """Return how an image was built, the first step first; nothing if its documents are lost."""
        try:
            return self._described(image, self.bridge.manifests.load(image))[1]
        except (BlobMissing, BlobDamaged):
            return ()

    def attached_to(self, repository: RepositoryName, row: ManifestRow, trust: Trust) -> list[Attachment]:
        """Return what is attached to a manifest by tag or as a referrer, and one more than are shown."""
        return self._attached(repository, [row], [], trust)

    def _image_row(
        self, repository: RepositoryName, row: ManifestRow, manifest: Manifest, platform: Platform
    ) -> ManifestRow | None:
        """Return the manifest of the image that is described; None: there is none here.

        An index within an index is no image.
        """
        if row.media_type in media_types.SCHEMA1_TYPES:
            return row
        if row.media_type in media_types.IMAGES:
            (config,) = manifest.described(Role.CONFIG)
            return row if media_types.may_be_image(row.media_type, config.media_type) else None
        entries = manifest.described(Role.MANIFEST)
        chosen = choose(platform, ((entry.platform, entry.digest) for entry in entries))
        found = self.bridge.manifests.peek(repository, chosen) if chosen else None
        return None if found is None or found.media_type in media_types.INDEXES else found

    def _image(self, repository: RepositoryName, row: ManifestRow, reach: Reach | None) -> Image | None:
        """Return an image; None: its documents are lost. *reach* as ``inspect``; None: nobody is counted."""
        try:
            manifest = self.bridge.manifests.load(row)
            description, steps = self._described(row, manifest)
        except (BlobMissing, BlobDamaged):
            return None
        view = self.bridge.view_of(row)
        pushed = self._pushed_steps(repository, view) if view else ()
        sizes = (child.descriptor.size or 0 for child in manifest.children)
        return Image(
            digest=row.digest,
            media_type=row.media_type,
            size=row.size + sum(sizes),
            description=description,
            steps=pushed or steps,
            v1_image=view,
            pushed_chain=bool(pushed),
            sharing=self._sharing(row, pushed or steps, reach) if reach is not None else (),
        )

    def _sharing(self, row: ManifestRow, steps: Sequence[Step], reach: Reach) -> tuple[LayerSharing, ...]:
        """Return how many images have each layer of an image, in the order of the steps."""
        layers = [*dict.fromkeys(step.layer for step in steps if step.layer)][:_SHARING]
        with self.bridge.state.catalog.read() as tx:
            found = tx.uses.sharing(row.repository_id, layers, reach)
        return tuple(LayerSharing(each, *found[each]) for each in layers if each in found)

    def _pushed_steps(self, repository: RepositoryName, view: ImageId) -> tuple[Step, ...]:
        """Return the chain of a V1 image as steps, base first; none unless V1 clients pushed all of it."""
        images = self.bridge.v1_images
        chain = images.ancestry(repository, view)[::-1]
        if not all(member.checksum for member in chain):
            return ()
        layers = [Descriptor("", each.layer, each.layer_size) for each in chain if each.layer]
        documents = [parse_object(images.json(each)) for each in chain]
        return tuple(v1_step(document, layer) for document, layer in zip(documents, layers, strict=True))

    def _described(self, row: ManifestRow, manifest: Manifest) -> tuple[Description | None, tuple[Step, ...]]:
        layers = manifest.described(Role.LAYER)
        if row.media_type in media_types.SCHEMA1_TYPES:
            documents = v1_documents(manifest.payload)
            steps = tuple(v1_step(each, layer) for each, layer in zip(documents, layers, strict=False))
            return (describe(documents[-1]) if documents else None), steps
        document = self._config(manifest)
        return (describe(document) if document else None), steps_of(document, layers)

    def _config(self, manifest: Manifest) -> Mapping[str, Any]:
        (config,) = manifest.described(Role.CONFIG)
        if (config.size or 0) > CONFIG_LIMIT:
            return {}
        try:
            return parse_object(self.bridge.manifests.documents.read(config.digest))
        except (BlobMissing, BlobDamaged, ValueError):
            return {}

    def _tags(self, row: ManifestRow) -> list[str]:
        with self.bridge.state.catalog.read() as tx:
            found = tx.uses.tags(row.repository_id, [str(row.digest)])
            return [each.above for each in itertools.islice(found, _LIMIT + 1)]

    def _entries(self, repository: RepositoryName, listed: Sequence[Annotated]) -> Iterator[Entry]:
        manifests = self.bridge.manifests
        rows = {
            row.digest: row
            for row in manifests.peek_all(repository, {each.descriptor.digest for each in listed})
        }
        for each in listed:
            entry, row = each.descriptor, rows.get(each.descriptor.digest)
            blobs = manifests.reachable_blobs(repository, row.digest) if row else ()
            size = sum(blob.size for blob in blobs) if row else None
            platform = str(Platform.named_by(entry.platform))
            yield Entry(entry.digest, entry.media_type, platform, size, reference_of(each))

    def _attached(
        self,
        repository: RepositoryName,
        rows: Sequence[ManifestRow | None],
        listed: Sequence[Annotated],
        trust: Trust,
    ) -> list[Attachment]:
        """Return what is attached to manifests, and one more than are shown."""
        budget, manifests = Budget(), self.bridge.manifests
        found = list[Iterator[Attachment]]()
        for row in dict.fromkeys(filter(None, rows)):
            target = Target(row.media_type, row.digest, manifests.payload(row))
            checking = Checking(target, trust, self.bridge.state.catalog.now())
            found.append(self.attachments.walk(repository, checking, budget))
            found += (self.attachments.of_entry(repository, each, checking, budget) for each in listed)
        return [*itertools.islice(itertools.chain.from_iterable(found), _LIMIT + 1)]
