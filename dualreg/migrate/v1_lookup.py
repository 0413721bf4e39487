"""V1 lookup: what V1 clients see tags as, looked up for many of them with what else an export reads.

Views that are not recorded are derived for the export alone: to record one takes several waits for the disk.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from dualreg.catalog.rows import ManifestRow, V1ImageRow
from dualreg.errors import BlobDamaged, BlobMissing, RegistryError
from dualreg.image import media_types
from dualreg.image.convert import Link
from dualreg.image.digest import Digest
from dualreg.image.manifest import Manifest
from dualreg.image.names import ImageId, Tag
from dualreg.migrate.findings import Broken
from dualreg.migrate.lookup import Lookup
from dualreg.registry.v1_seen import SeenImage

#: A chain of V1 images, base first; empty: V1 clients cannot use the manifest; None: that is not known.
_Chain = Sequence[Link] | None


@dataclass
class V1Lookup(Lookup):
    """A Lookup that also looks up ahead what V1 clients see tags as."""

    _seen: dict[Tag, tuple[SeenImage, ...]] = field(default_factory=dict)

    def look_ahead(self, tags: Collection[Tag]) -> None:
        """Look up what an export of *tags* needs; tags that need more care are left to ``seen``."""
        super().look_ahead(tags)
        seen = self.registry.bridge.seen.tags(self.repository, self._tags.keys())
        seen = {tag: each for tag, each in seen.items() if each.manifest == self._tags[tag].digest}
        known = {tag: each.image for tag, each in seen.items() if each.is_known}
        self._note_recorded(known)
        self._note_derived({tag: self._tags[tag] for tag in sorted(seen) if tag not in known})

    def seen(self, tag: Tag) -> tuple[SeenImage, ...]:
        """Return the V1 image that V1 clients see a tag as, as ``Lookup.seen``."""
        known = self._seen.get(tag)
        return super().seen(tag) if known is None else known

    def _note_recorded(self, known: Mapping[Tag, ImageId | None]) -> None:
        images = {image for image in known.values() if image}
        found = self.registry.bridge.seen.ancestries(self.repository, images) if images else {}
        for tag, image in known.items():
            if image is None:
                self._seen[tag] = ()
            elif image in found:
                self._seen[tag] = tuple(map(SeenImage, found[image]))

    def _note_derived(self, tags: Mapping[Tag, ManifestRow]) -> None:
        """Note what tags will be seen as, whose views are not recorded."""
        chains = self._chains({row.digest: row for row in tags.values()}.values())
        derived = {digest: chain for digest, chain in chains.items() if chain}
        found: Mapping[Digest, Sequence[V1ImageRow]] = {}
        with suppress(OSError):  # of the JSON of one image, which ``seen`` raises for its tag alone
            found = self.registry.bridge.seen.foresee(self.repository, derived) if derived else {}
        made = dict[ImageId, SeenImage]()
        for tag, row in tags.items():
            chain = chains.get(row.digest)
            if chain and (rows := found.get(row.digest)):
                images = [
                    made.get(each.id) or made.setdefault(each.id, _seen_image(each, link))
                    for each, link in zip(rows, chain, strict=True)
                ]
                self._seen[tag] = (*reversed(images),)
            elif chain is not None and not chain:
                self._seen[tag] = ()

    def _chains(self, rows: Collection[ManifestRow]) -> dict[Digest, _Chain]:
        """Derive the chains of manifests, as many as may be remembered."""
        chains = dict[Digest, _Chain]()
        for row in rows:
            with suppress(Broken, RegistryError, BlobMissing, BlobDamaged, OSError, ValueError):
                chain = self._chain(row)
                size = sum(len(link.image.json) for link in chain or ())
                if size <= self.left:
                    self.left -= size
                    chains[row.digest] = chain
        return chains

    def _chain(self, row: ManifestRow) -> _Chain:
        """Derive the chain of a manifest; those of schema 1, whose layers are read, are left out."""
        image: ManifestRow | None = row
        if row.media_type in media_types.INDEXES:
            # the child that clients without indexes get
            chosen = self.registry.manifests.linux_amd64(row)
            if chosen is None:
                return ()
            image = next(iter(self.manifests([chosen])), None)
        if image is None or image.media_type in media_types.SCHEMA1_TYPES:
            return None
        if image.media_type not in media_types.IMAGES:
            return ()
        document = self.document(image)
        manifest = Manifest(image.media_type, document.payload, image.digest, document.contents)
        named = {child.descriptor.digest for child in manifest.children} & self._blobs.keys()
        sizes = {digest: self._blobs[digest].size for digest in named}
        chain = self.registry.bridge.chains.of_manifest(manifest.resized(sizes)) or ()
        return chain if all(link.layer.digest in sizes for link in chain) else None


def _seen_image(row: V1ImageRow, link: Link) -> SeenImage:
    """Return an image with its JSON, unless that is another one, which is stored."""
    json = link.image.json
    return SeenImage(row, json if Digest.of(json) == row.json else None)
