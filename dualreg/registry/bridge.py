"""Bridge: the images of one generation of clients, as the other generation sees them.

A V1 image becomes a manifest when a V1 client tags it (``Bridge.tag``). A manifest becomes a chain of V1
images, its V1 view, when a V1 client first reads tags (``Bridge.tags``, ``resolve``, ``images``): V2 traffic
pays nothing for it. Both are stored, so each is made once. An image that a client pushed has a payload
checksum; a derived one has none, and gives way to a pushed one.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dualreg.catalog.rows import BlobRow, ManifestRow, Origin, RepositoryRow, V1ImageRow
from dualreg.errors import (
    ImageExists,
    ImageIncomplete,
    ImageInvalid,
    ImageUnknown,
    ManifestUnknown,
    RepositoryUnknown,
    TagUnknown,
)
from dualreg.image import media_types
from dualreg.image.convert import Converted, Link, V1Layer, chain_from_manifest, manifest_from_chain
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats import Role, schema1
from dualreg.image.layer import EMPTY_LAYER, Compression, DiffIdHasher, empty_diff_ids, empty_layer, regzip
from dualreg.image.manifest import Manifest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.schema1 import chain_from_schema1
from dualreg.image.v1_image import CHAIN_LIMIT, V1Image
from dualreg.registry.inflating import InflatingSlots
from dualreg.registry.manifests import Manifests
from dualreg.registry.preconditions import UNCONDITIONAL, Precondition
from dualreg.registry.state import State
from dualreg.registry.uploads import Uploads
from dualreg.registry.upstream import available_v1_tags
from dualreg.registry.v1_images import V1Images
from dualreg.registry.visibility import Visibility
from dualreg.storage.base import BlobStore, read_chunks

#: The largest config, in bytes, that is read into memory; no daemon writes one near this size.
CONFIG_LIMIT = 4 << 20
#: The largest JSON, in bytes, of all images of a chain.
_CHAIN_JSON_LIMIT = 16 << 20
#: Seconds to wait while other layers are read through; each manifest needs this once.
_PATIENCE = 60.0
#: How often a change is retried, or a tag read again, while other clients keep changing it.
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Bridge:
    """Makes manifests of V1 images, and V1 views of manifests.

    Attributes:
        visibility: Which tags V1 clients see.
    """

    state: State
    uploads: Uploads
    manifests: Manifests
    v1_images: V1Images
    visibility: Visibility = field(default_factory=Visibility)
    inflating: InflatingSlots = field(default_factory=InflatingSlots)

    def tag(
        self,
        repository: RepositoryName,
        tag: Tag,
        image: ImageId,
        *,
        condition: Precondition = UNCONDITIONAL,
        at: datetime | None = None,
        refuse_duplicate: bool = False,
    ) -> Digest:
        """Point the tag at the manifest of a V1 image, making that if there is none; return its digest.

        Args:
            condition: What must hold of the tag.
            at: When the tag was pushed; None: now.
            refuse_duplicate: Fail if the manifest is already that of another image which a client pushed:
                both have the same files and configuration, and one manifest can be seen as one image only.

        Raises:
            ImageUnknown, ImageIncomplete, PreconditionFailed.
            ImageInvalid: the JSONs of its chain are too large.
            ImageExists: with the ID of that other image.
        """
        for _ in range(_ATTEMPTS):
            manifest = self._publish(repository, image, refuse_duplicate=refuse_duplicate)
            try:
                self.manifests.retag(repository, tag, manifest, Origin.V1, condition=condition, at=at)
            except ManifestUnknown:
                continue  # it was deleted in the meantime
            return manifest
        raise ImageUnknown(id=image)

    def _publish(self, repository: RepositoryName, image: ImageId, *, refuse_duplicate: bool) -> Digest:
        """Return the manifest of a V1 image; make and store it unless the image has one already."""
        ancestry = self.v1_images.ancestry(repository, image)
        if manifest := self.manifest_of(repository, image):
            return manifest
        links = self._named_links(repository, ancestry)
        made = manifest_from_chain(links)
        self.uploads.ingest(repository, [made.config])
        try:
            return self._put(repository, made, image)
        except ImageExists:
            if refuse_duplicate:
                raise
        return self._put(repository, manifest_from_chain(links, named=True), image)

    def _put(self, repository: RepositoryName, made: Converted, image: ImageId) -> Digest:
        digest = Digest.of(made.payload)
        self.manifests.put(repository, digest, made.media_type, made.payload, v1_view=image)
        return digest

    def refresh(self, repository: RepositoryName) -> None:
        """Derive the V1 view of every tagged manifest that has none yet, if V1 clients see the tag."""
        self._derive_all(repository, None, self.visibility.shown(repository, Origin.V1))

    def tags(self, repository: RepositoryName) -> dict[Tag, ImageId]:
        """Return the repository's tags with their V1 images; tags without a V1 view are left out.

        Raises:
            RepositoryUnknown: there is no such repository, or none of its tags has a V1 view.
        """
        tags = self._available(repository) | self._seen(repository)
        if not tags:
            raise RepositoryUnknown(name=repository)
        return tags

    def resolve(self, repository: RepositoryName, tag: Tag) -> ImageId:
        """Return the V1 image that the tag is seen as.

        Raises:
            TagUnknown: there is no such tag, or it has no V1 view.
        """
        tags, upstream = self._seen(repository, tag), self.state.upstream
        shown = upstream.origin in self.visibility.shown(repository, Origin.V1)
        if tag not in tags and shown and upstream.load(repository, tag):
            tags = self._seen(repository, tag)
        if tag not in tags:
            raise TagUnknown(tag=tag)
        return tags[tag]

    def images(self, repository: RepositoryName) -> tuple[ImageId, ...]:
        """Return the IDs of the repository's V1 images: pushed ones, views of its tags, and their ancestors.

        Raises:
            RepositoryUnknown.
        """
        available = self._available(repository)
        self.refresh(repository)
        return self.v1_images.list(repository, available.values())

    def view_of(self, row: ManifestRow) -> ImageId | None:
        """Return the V1 image that the manifest is recorded to be seen as.

        None: it cannot be seen as one, or its view has not been derived yet.
        """
        with self.state.catalog.read() as tx:
            view = tx.views.find(row.repository_id, row.digest)
        return None if view is None else ImageId(view)

    def manifest_of(self, repository: RepositoryName, image: ImageId) -> Digest | None:
        """Return the manifest that is recorded to be seen as a V1 image, if there is one."""
        with self.state.catalog.read() as tx:
            row = tx.repositories.find(repository)
            return tx.views.manifest_of(row.id, image) if row else None

    def pushed_chain(self, repository: RepositoryName, row: ManifestRow) -> tuple[Link, ...] | None:
        """Return the V1 chain, base first, that the manifest was made from; None unless clients pushed it."""
        with self.state.catalog.read() as tx:
            image = tx.views.find(row.repository_id, row.digest)
        if image is None:
            return None
        ancestry = self.v1_images.ancestry(repository, ImageId(image))
        pushed = all(member.checksum for member in ancestry)
        return self._links(repository, ancestry) if pushed else None

    def schema1_chain(
        self, repository: RepositoryName, tag: Tag, row: ManifestRow
    ) -> tuple[Link, ...] | None:
        """Return the V1 chain, base first, in a tagged schema 1 manifest; None if its IDs do not form one.

        It may differ from what V1 clients see, to whom one of the IDs may be another image.
        """
        self._derive_all(repository, tag, frozenset(Origin))  # for a V2 client, so visibility does not matter
        with self.state.catalog.read() as tx:
            image = tx.views.find(row.repository_id, row.digest)
        if image is None:
            return self._read_schema1(row)
        return self._links(repository, self.v1_images.ancestry(repository, ImageId(image)))

    def read_image(self, row: ManifestRow) -> tuple[Manifest, bytes] | None:
        """Return a manifest that may be an image's, with its config; None if it is of another kind.

        None too if the config is too large to be read into memory.
        """
        if row.media_type not in media_types.IMAGES:
            return None
        manifest = self.manifests.load(row)
        (config,) = manifest.described(Role.CONFIG)
        possible = media_types.may_be_image(row.media_type, config.media_type)
        if not possible or (config.size or 0) > CONFIG_LIMIT:
            return None
        return manifest, self.manifests.documents.read(config.digest)

    def _available(self, repository: RepositoryName) -> dict[Tag, ImageId]:
        """Return the tags that only upstream has, as V1 clients see them."""
        shown = self.visibility.shown(repository, Origin.V1)
        return available_v1_tags(self.state.upstream, repository, shown)

    def _seen(self, repository: RepositoryName, tag: Tag | None = None) -> dict[Tag, ImageId]:
        """Return the tags as V1 clients see them; start over if one is moved in the meantime."""
        shown = self.visibility.shown(repository, Origin.V1)
        for _ in range(_ATTEMPTS):
            with self.state.catalog.read() as tx:
                seen = tx.views.tags(repository, tag, origins=shown)
            if seen.complete:
                break
            self._derive_all(repository, tag, shown)
        return seen.images

    def _named_links(self, repository: RepositoryName, ancestry: Sequence[V1ImageRow]) -> tuple[Link, ...]:
        """Return the chain, base first, that a manifest is made from; empty layers are not recompressed."""
        named = non_empty(ancestry)
        links = (self._link(repository, row, recompress=row in named) for row in reversed(ancestry))
        return tuple(_bounded(links))

    def _links(self, repository: RepositoryName, ancestry: Sequence[V1ImageRow]) -> tuple[Link, ...]:
        return tuple(_bounded(self._link(repository, member) for member in reversed(ancestry)))

    def _link(self, repository: RepositoryName, row: V1ImageRow, *, recompress: bool = True) -> Link:
        """Return the image with its layer; *recompress* it to gzip if its compression has no media type."""
        if row.layer is None or row.diff_id is None:
            raise ImageIncomplete(id=row.id)
        compression, blob = Compression.GZIP, BlobRow(row.layer, row.layer_size or 0)
        if recompress:
            with self.state.store.open(row.layer) as layer:
                compression = Compression.sniff(layer.read(6))
        if compression not in (Compression.GZIP, Compression.NONE):
            with self.state.store.open(row.layer) as layer:
                blob = self.uploads.ingest(repository, regzip(read_chunks(layer)))
            compression = Compression.GZIP
        image = V1Image(row.id, row.parent, self.v1_images.json(row))
        return Link(image, V1Layer(blob.digest, blob.size, row.diff_id, compression))

    def _derive_all(self, repository: RepositoryName, tag: Tag | None, origins: Collection[Origin]) -> None:
        with self.state.catalog.read() as tx:
            missing = tx.views.missing(repository, tag, origins=origins)
        for row in missing:
            self._derive(RepositoryRow(row.repository_id, repository), row)

    def _derive(self, repository: RepositoryRow, row: ManifestRow) -> None:
        image = self.manifests.image_of(repository.name, row)
        chain = (image and self._chain(image)) or ()
        is_schema1 = image is not None and image.media_type in media_types.SCHEMA1_TYPES
        rows = _derived_rows(repository, chain)
        documents = [link.image.json for link in chain]
        if any(link.layer.digest == empty_layer().digest for link in chain):
            documents.append(EMPTY_LAYER)
        with self.state.staged(*documents) as uploads, self.state.catalog.begin() as tx:
            locked = tx.repositories.lock(repository.name, exclusive=is_schema1)
            if locked is None or not tx.manifests.lock_existing(repository.id, [row.digest]):
                return  # deleted in the meantime
            if is_schema1 and tx.v1_images.contradicts(repository.id, rows):
                # A client that signs schema 1 chooses its IDs, and must not take over those of other images.
                tx.views.record(repository.id, row.digest, None)
                return
            for upload, document in zip(uploads, documents, strict=True):
                self.state.admit(tx, repository, upload, BlobRow(Digest.of(document), len(document)))
            self.v1_images.record(tx, repository, rows)
            tx.views.record(repository.id, row.digest, chain[-1].image.id if chain else None)

    def _chain(self, image: ManifestRow) -> tuple[Link, ...] | None:
        """Return the V1 view of an image manifest as a chain, base first; None if it has none."""
        if image.media_type in media_types.SCHEMA1_TYPES:
            return self._read_schema1(image)
        read = self.read_image(image)
        return read and chain_from_manifest(*read, empty_layer())

    def _read_schema1(self, row: ManifestRow) -> tuple[Link, ...] | None:
        """Return the V1 chain in a schema 1 manifest, whose layers are read; None if one cannot be read."""
        payload = self.manifests.payload(row)
        document = parse_object(payload)
        if len(document["history"]) > CHAIN_LIMIT:
            return None
        named = {child.descriptor.digest for child in schema1.contents(document).children}
        with self.state.catalog.read() as tx:
            sizes = tx.blobs.linked(row.repository_id, named)
        try:
            with self.inflating.slot(patience=_PATIENCE):
                layers = _read_layers(self.state.store, sizes)
        except ImageInvalid:
            return None  # zstd, or pushed damaged
        return chain_from_schema1(payload, layers)


def non_empty(ancestry: Sequence[V1ImageRow]) -> Sequence[V1ImageRow]:
    """Return those images of an ancestry whose layers have files: a manifest names only these layers.

    If none has files, return the base, since a manifest needs a layer.
    """
    return [row for row in ancestry if row.diff_id not in empty_diff_ids()] or ancestry[-1:]


def _bounded(links: Iterable[Link]) -> Iterator[Link]:
    """Yield *links* as long as their JSONs are not too large together.

    Raises:
        ImageInvalid: they are.
    """
    total = 0
    for link in links:
        total += len(link.image.json)
        if total > _CHAIN_JSON_LIMIT:
            raise ImageInvalid(reason="the JSONs of the image's chain are too large")
        yield link


def _read_layers(store: BlobStore, sizes: Mapping[Digest, int]) -> dict[Digest, V1Layer]:
    """Read layers through to find their diff IDs and compressions.

    Raises:
        ImageInvalid: a layer cannot be decompressed.
    """
    layers = {}
    for digest, size in sizes.items():
        hasher = DiffIdHasher()
        with store.open(digest) as layer:
            for chunk in read_chunks(layer):
                hasher.update(chunk)
        diff_id = hasher.digest()
        layers[digest] = V1Layer(digest, size, diff_id, hasher.compression or Compression.NONE)
    return layers


def _derived_rows(repository: RepositoryRow, chain: Iterable[Link]) -> list[V1ImageRow]:
    """Return a derived chain as the catalog records it: complete, without checksums."""
    return [
        V1ImageRow(
            repository.id,
            link.image.id,
            link.image.parent,
            Digest.of(link.image.json),
            link.layer.digest,
            link.layer.size,
            link.layer.diff_id,
            checksum=None,
            complete=True,
        )
        for link in chain
    ]
