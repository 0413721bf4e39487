"""Contents: which V1 images and manifests of a repository are in the copy with all that they need.

An image needs its JSON, its layer and its parent; a manifest its bytes, with their digest, what the registry
required when it was pushed, and the V1 image that the tree says it is seen as; an index the manifests in it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dualreg.catalog.dialects import batches
from dualreg.catalog.following import RecordedManifest, RecordedRepository
from dualreg.catalog.rebuilding import FoundBlob, FoundManifest
from dualreg.catalog.rows import V1ImageRow
from dualreg.catalog.views import V1
from dualreg.errors import BlobMissing, ManifestInvalid
from dualreg.image.digest import Digest
from dualreg.image.formats import Child, Role
from dualreg.image.manifest import Manifest
from dualreg.image.names import ImageId
from dualreg.maintenance.follow.presence import Presence
from dualreg.maintenance.follow.said import Said
from dualreg.maintenance.recording import read_manifest, v1_row
from dualreg.storage import Store
from dualreg.storage.names import ManifestName

#: Manifests that are read at a time.
_BATCH = 100
_Read = tuple[ManifestName, Manifest]


@dataclass(frozen=True, slots=True)
class ReadyManifest:
    """A manifest that can be recorded, with the blobs that it needs."""

    found: FoundManifest
    blobs: Sequence[FoundBlob]


@dataclass(frozen=True, slots=True)
class ReadyImage:
    """A V1 image that can be recorded, with its blobs."""

    row: V1ImageRow
    blobs: Sequence[FoundBlob]


@dataclass
class Contents:
    """Finds what is complete; what is recorded and has not changed is not read again.

    Attributes:
        lost: Blobs that are recorded, and not in the copy any more, or with another size.
        typed: Manifests whose media type was in a file of its own when they were last recorded.
        sparse: Whether indexes may lack manifests that the repository does not have.
        sizes: Returns the sizes of blobs that were found before.
        whole: The manifests that are complete; completed by ``new_manifests``.
        images: The V1 images that are complete; completed by ``new_images``.
        waiting: Why manifests and images are not complete.
    """

    store: Store
    presence: Presence
    said: Said
    recorded: RecordedRepository
    lost: Collection[Digest]
    typed: Collection[Digest]
    sparse: bool
    sizes: Callable[[Collection[Digest]], Mapping[Digest, int]]
    whole: set[Digest] = field(default_factory=set)
    images: set[ImageId] = field(default_factory=set)
    waiting: dict[Digest | ImageId, str] = field(default_factory=dict)
    _adopted: set[Digest] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Count as lost what needs what was lost."""
        needing: dict[Digest, list[Digest]] = {}
        for digest, manifest in self.recorded.manifests.items():
            for child in manifest.blobs | manifest.entries:
                needing.setdefault(child, []).append(digest)
        found, fresh = set(self.lost), [*self.lost]
        while fresh:
            fresh = [each for digest in fresh for each in needing.get(digest, ()) if each not in found]
            found.update(fresh)
        self.lost = found

    def new_images(self) -> Iterator[ReadyImage]:
        """Yield the V1 images that are complete and not recorded as they are, parents first."""
        children: dict[ImageId | None, list[ImageId]] = {}
        for image in self.said.images.values():
            children.setdefault(image.parent, []).append(image.id)
        known = self.sizes({d for image in self.said.images.values() for d in (image.json, image.layer)})
        level = children.pop(None, [])
        while level:
            found = [self._image(id_, known) for id_ in level]
            self.images.update(image.row.id for image in found if image)
            yield from (image for image in found if image and self._is_new(image.row))
            level = [child for image in found if image for child in children.pop(image.row.id, ())]
        for left in (each for ids in children.values() for each in ids):
            self.waiting.setdefault(left, "its parent is not complete")

    def _is_new(self, row: V1ImageRow) -> bool:
        return self.recorded.images.get(row.id) != row or not {row.json, row.layer}.isdisjoint(self.lost)

    def _image(self, id_: ImageId, known: Mapping[Digest, int]) -> ReadyImage | None:
        image = self.said.images[id_]
        blobs = [self.presence.find(each, known=known.get(each)) for each in (image.json, image.layer)]
        if None in blobs:
            self.waiting[id_] = "its JSON or layer is missing"
            return None
        return ReadyImage(v1_row(self.recorded.id or 0, image), [blob for blob in blobs if blob])

    def new_manifests(self) -> Iterator[Sequence[ReadyManifest]]:
        """Yield the manifests that are complete and not recorded as they are: entries before their indexes.

        To be called after ``new_images``.
        """
        indexes = dict[Digest, _Read]()
        for batch in batches(self._changed(), _BATCH):
            read = [(name, found) for name in batch if (found := self._read(name))]
            indexes |= {name.digest: (name, found) for name, found in read if found.entries}
            yield self._ready([(name, found) for name, found in read if not found.entries])
        yield from self._indexes(indexes)

    def _changed(self) -> Iterator[ManifestName]:
        """Yield what has to be read; what is recorded as the tree says, and not lost, is complete."""
        tagged = {tag.digest for tag in self.said.tags.values()}
        self.waiting |= dict.fromkeys(tagged - self.said.manifests.keys(), "its link is missing")
        for name in self.said.manifests.values():
            own = self.recorded.manifests.get(name.digest)
            if own and self._is_unchanged(name, own):
                self.whole.add(name.digest)
            else:
                yield name

    def _is_unchanged(self, name: ManifestName, own: RecordedManifest) -> bool:
        is_same = own.at == name.at and own.signed == name.signed and not own.lacking
        is_typed = bool(name.media_type)
        same_type = own.media_type == name.media_type if is_typed else name.digest not in self.typed
        is_seen = V1 not in name.views or name.views[V1] in self.images
        needed = {name.digest, *own.blobs, *own.entries}
        return is_same and same_type and is_seen and needed.isdisjoint(self.lost)

    def _read(self, name: ManifestName) -> Manifest | None:
        try:
            return read_manifest(self.store, name)
        except BlobMissing:
            self.waiting[name.digest] = "it is missing"
        except (OSError, ManifestInvalid) as error:
            self.waiting[name.digest] = f"it is damaged: {error}"
        return None

    def _ready(self, read: Iterable[_Read]) -> Sequence[ReadyManifest]:
        """Return those that are complete; the entries of indexes are."""
        read = [*read]
        known = self.sizes({d for name, manifest in read for d in _named(name, manifest)})
        ready = [each for name, manifest in read if (each := self._complete(name, manifest, known))]
        self.whole.update(each.found.manifest.digest for each in ready)
        return ready

    def _complete(
        self, name: ManifestName, manifest: Manifest, known: Mapping[Digest, int]
    ) -> ReadyManifest | None:
        required = {child.key for child in manifest.required if not self._may_lack(child)}
        held, blobs = list[Child](), list[FoundBlob]()
        for child in manifest.children:
            digest = child.descriptor.digest
            blob = self.presence.find(digest, child.descriptor.size, known=known.get(digest))
            if blob and (child.key in required or digest in self.said.blobs or digest in self.whole):
                held.append(child)
                blobs.append(blob)
            elif child.key in required:
                self.waiting[name.digest] = f"{child.role} {digest} is missing"
                return None
        own = [self.presence.find(each, known=known.get(each)) for each in _itself(name)]
        image = name.views.get(V1)
        if None in own or (image and image not in self.images):
            self.waiting[name.digest] = f"V1 image {image} is not complete" if all(own) else "it is missing"
            return None
        missing = [child for child in manifest.entries if child not in held]
        found = FoundManifest(manifest, name.at, held, missing, name.signed, {})
        return ReadyManifest(found, [*blobs, *(blob for blob in own if blob)])

    def _may_lack(self, child: Child) -> bool:
        """Return whether an index may lack an entry: one of which the repository knows nothing."""
        digest = child.descriptor.digest
        is_known = digest in self.said.blobs or digest in self.said.manifests or digest in self.whole
        return child.role is Role.MANIFEST and self.sparse and not is_known

    def _indexes(self, indexes: dict[Digest, _Read]) -> Iterator[Sequence[ReadyManifest]]:
        """Yield indexes that are complete, after entries of theirs that have no link as manifests."""
        adopted = self._adoptable(indexes)
        indexes |= {name.digest: (name, found) for name, found in adopted if found.entries}
        yield self._ready([each for each in adopted if not each[1].entries])
        left = {**indexes}
        while now := [digest for digest, (_, each) in left.items() if self._are_settled(each, left)]:
            yield self._ready([left.pop(digest) for digest in now])
        self.waiting |= dict.fromkeys(left, "a manifest in it is not complete")

    def _are_settled(self, index: Manifest, left: Collection[Digest]) -> bool:
        """Return whether it is known of each entry that it is complete, or no manifest of the repository."""
        entries = {child.descriptor.digest for child in index.entries} - self.whole
        return entries.isdisjoint({*left, *self.said.manifests, *self._adopted})

    def _adoptable(self, indexes: Mapping[Digest, _Read]) -> Sequence[_Read]:
        """Return manifests that indexes list, and the tree does not link as manifests, as a rebuild does."""
        seen, found, fresh = {*self.said.manifests, *self.whole, *indexes}, list[_Read](), [*indexes.values()]
        while fresh:
            listed = [(name, child) for name, index in fresh for child in index.entries]
            names = {
                digest: ManifestName(digest, self.said.blobs.get(digest, name.at))
                for name, child in listed
                if (digest := child.descriptor.digest) not in seen and not self._may_lack(child)
            }
            seen |= names.keys()
            fresh = [(name, manifest) for name in names.values() if (manifest := self._try(name))]
            found += fresh
        self._adopted.update(name.digest for name, _ in found)
        return found

    def _try(self, name: ManifestName) -> Manifest | None:
        """Return a manifest; None if it is none: an index may list blobs."""
        try:
            return read_manifest(self.store, name)
        except (BlobMissing, OSError, ManifestInvalid):
            return None


def _itself(name: ManifestName) -> Sequence[Digest]:
    return [name.digest, *([name.signed] if name.signed else [])]


def _named(name: ManifestName, manifest: Manifest) -> Iterator[Digest]:
    yield from _itself(name)
    yield from (child.descriptor.digest for child in manifest.children)
