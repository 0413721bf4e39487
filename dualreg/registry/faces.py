"""Faces: a tag as V1 clients and as all others see it, step by step, and why they see it."""

from collections.abc import Sequence
from dataclasses import dataclass

from dualreg.catalog.rows import ManifestRow, Origin, V1ImageRow
from dualreg.catalog.views import V1
from dualreg.errors import BlobDamaged, BlobMissing, ImageIncomplete, ImageUnknown, ManifestUnknown
from dualreg.image import media_types
from dualreg.image.artifacts import Sort
from dualreg.image.description import Step
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.signatures.trust import Trust
from dualreg.registry.inspection import Inspection

_FORMATS = {
    media_types.SCHEMA1: "schema 1",
    media_types.SCHEMA1_SIGNED: "schema 1",
    media_types.DOCKER_MANIFEST: "schema 2",
    media_types.DOCKER_LIST: "a manifest list",
    media_types.OCI_MANIFEST: "an OCI image",
    media_types.OCI_INDEX: "an OCI index",
}


@dataclass(frozen=True, slots=True)
class FacePair:
    """A step of the build of an image, in both generations.

    Attributes:
        image: The V1 image; null: V1 clients see none for this step.
        pushed: Whether a client pushed the V1 image; if not, it was derived here.
        layer: The layer in the manifest; null: the step made none.
        size: Bytes of that layer; null: unknown, or there is none.
        recompressed: Whether V1 clients get that layer compressed in another way.
        created: When, as the document writes times.
        created_by: The command.
    """

    image: ImageId | None
    pushed: bool
    layer: Digest | None
    size: int | None
    recompressed: bool
    created: str
    created_by: str


@dataclass(frozen=True, slots=True)
class Faces:
    """A tag in both generations.

    Attributes:
        origin: The generation of the client that pushed it.
        manifest: The manifest of the image, which is another one than *digest* if that is an index.
        image: The V1 image that the tag is seen as; null: there is none, or none yet.
        pairs: The steps, the first one first.
        signatures: How many signatures are attached.
        bridge: What the setting bridge says of the repository: both, v1-to-v2, v2-to-v1 or off.
        pattern: By which pattern of that setting; empty: by its default.
        seen_by_v1, seen_by_v2: Whether clients of the generation see the tag.
        provenance: In words, where both faces come from.
        visibility: In words, who sees the tag, and why.
    """

    repository: RepositoryName
    tag: Tag
    digest: Digest
    media_type: str
    origin: Origin
    manifest: Digest | None
    image: ImageId | None
    pairs: tuple[FacePair, ...]
    signatures: int
    bridge: str
    pattern: str
    seen_by_v1: bool
    seen_by_v2: bool
    provenance: str
    visibility: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares both faces of tags; nothing is derived or changed."""

    inspection: Inspection

    def faces(self, repository: RepositoryName, tag: Tag, trust: Trust, v1: str) -> Faces:
        """Return both faces of a tag of this registry.

        Args:
            trust: What signatures are verified by.
            v1: How much of the V1 API is served.

        Raises:
            ManifestUnknown: there is no such tag, or the bytes of its manifest are lost.
        """
        row = self.inspection.bridge.manifests.peek(repository, tag)
        if row is None or row.origin is None:
            raise ManifestUnknown(reference=str(tag))
        try:
            image = self.inspection.default_image(repository, row)
            signed = self.inspection.attached_to(repository, row, trust)
        except (BlobMissing, BlobDamaged) as error:
            raise ManifestUnknown(reference=str(tag), reason=str(error)) from error
        chain = self._chain(repository, row)
        steps = self.inspection.steps(image) if image else ()
        count = sum(each.sort is Sort.SIGNATURE for each in signed)
        decided = self.inspection.bridge.visibility.decided(repository)
        seen_by_v1, seen_by_v2, visibility = self._visibility(repository, row, v1, *decided)
        return Faces(
            repository=repository,
            tag=tag,
            digest=row.digest,
            media_type=row.media_type,
            origin=row.origin,
            manifest=image.digest if image else None,
            image=chain[-1].id if chain else None,
            pairs=_opposite(steps, chain),
            signatures=count,
            bridge=decided[1],
            pattern=decided[0],
            seen_by_v1=seen_by_v1,
            seen_by_v2=seen_by_v2,
            provenance=f"{self._provenance(repository, row, chain)} {_signed(count)}",
            visibility=visibility,
        )

    def _chain(self, repository: RepositoryName, row: ManifestRow) -> Sequence[V1ImageRow]:
        """Return the V1 images that the manifest is recorded to be seen as, base first; none: no such."""
        bridge = self.inspection.bridge
        view = bridge.view_of(row)
        try:
            return bridge.v1_images.ancestry(repository, view)[::-1] if view else ()
        except (ImageUnknown, ImageIncomplete):
            return ()  # deleted meanwhile

    def _provenance(self, repository: RepositoryName, row: ManifestRow, chain: Sequence[V1ImageRow]) -> str:
        """Return in words where both faces come from."""
        name = _FORMATS.get(row.media_type, "a manifest")
        owner = self.inspection.bridge.state.upstream.owner(repository)
        is_pushed_chain = bool(chain) and all(each.checksum for each in chain)
        if is_pushed_chain and row.origin is Origin.V1:
            came = f"Pushed over V1, and converted to {name} by this registry."
        elif owner:
            came = f"Loaded from {owner} as {name}."
        else:
            came = f"Pushed over {str(row.origin).upper()} as {name}."
        if is_pushed_chain or not chain:
            return came
        return f"{came} This registry derived the V1 images."

    def _visibility(
        self, repository: RepositoryName, row: ManifestRow, v1: str, pattern: str, mode: str
    ) -> tuple[bool, bool, str]:
        """Return whether V1 clients see a tag, whether others do, and why in words."""
        bridge = self.inspection.bridge
        to_v1, to_v2 = (row.origin in bridge.visibility.shown(repository, each) for each in Origin)
        with bridge.state.catalog.read() as tx:
            unusable = tx.views.excluded(row.repository_id, row.digest, kind=V1)
        setting = f"bridge = {pattern}={mode}" if pattern else f"bridge = {mode}"
        v1_text = _of_v1(v1, setting, shown=to_v1, unusable=unusable)
        seen = "see it" if to_v2 else "do not see it by this tag"
        return to_v1 and v1 != "off" and not unusable, to_v2, f"{v1_text} V2 clients {seen}, by {setting}."


def _of_v1(v1: str, setting: str, *, shown: bool, unusable: bool) -> str:
    if v1 == "off":
        return "V1 clients do not see it: V1 is off."
    if not shown:
        return f"V1 clients do not see it, by {setting}."
    if unusable:
        return "V1 clients do not see it: it has no form that they can use, or other images have its V1 IDs."
    return f"V1 clients see it, by {setting}."


def _signed(signatures: int) -> str:
    if not signatures:
        return "No signature is attached to it."
    return f"{signatures} {'signature is' if signatures == 1 else 'signatures are'} attached."


def _opposite(steps: Sequence[Step], chain: Sequence[V1ImageRow]) -> tuple[FacePair, ...]:
    """Return V1 images opposite the steps of a manifest, both base first.

    A chain that clients pushed has an image for each step, and so has schema 1. A derived one has an image
    for each layer.
    """
    images = iter(chain)
    each_step = len(chain) == len(steps)
    found = [_pair(step, next(images, None) if step.layer or each_step else None) for step in steps]
    return (*found, *(_pair(None, image) for image in images))


def _pair(step: Step | None, image: V1ImageRow | None) -> FacePair:
    stated = ImageId(step.image) if step and step.image else None
    layer = step.layer if step else None
    return FacePair(
        image=image.id if image else stated,
        pushed=bool(image and image.checksum),
        layer=layer,
        size=step.size if step else None,
        recompressed=bool(image and layer and image.layer != layer),
        created=step.created if step else "",
        created_by=step.created_by if step else "",
    )
