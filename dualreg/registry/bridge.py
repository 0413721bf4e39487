"""Bridge: one generation's images as the other's.

A V1 tag publishes a manifest; a V1 read derives a chain, once.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dualreg.catalog.database import Transaction
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
from dualreg.image.convert import Link, V1Layer, chain_from_manifest, manifest_from_chain
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats import Role, schema1
from dualreg.image.layer import EMPTY_LAYER, Compression, DiffIdHasher, empty_diff_ids, empty_layer, regzip
from dualreg.image.manifest import parse
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.schema1 import chain_from_schema1
from dualreg.image.v1_image import V1Image
from dualreg.registry.manifests import Manifests
from dualreg.registry.preconditions import UNCONDITIONAL, Precondition
from dualreg.registry.state import State
from dualreg.registry.uploads import Uploads
from dualreg.registry.upstream import v1_tags
from dualreg.registry.v1_images import V1Images
from dualreg.registry.visibility import Visibility
from dualreg.storage.base import BlobStore, read_chunks

#: Bytes of the largest config that is read whole; no daemon writes one near this.
CONFIG_LIMIT = 4 << 20


def is_readable_config(config: Descriptor) -> bool:
    """Tell whether the config is that of an image, and small enough to be read whole."""
    return config.media_type in media_types.IMAGE_CONFIGS and (config.size or 0) <= CONFIG_LIMIT


def read_layers(store: BlobStore, sizes: Mapping[Digest, int]) -> dict[Digest, V1Layer]:
    """Read layers through, for what is inside; return them by their digests.

    Raises:
        ImageInvalid: one does not decompress.
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


def derived_rows(repository: RepositoryRow, chain: Iterable[Link]) -> list[V1ImageRow]:
    """Return the catalog's form of a derived chain. There is no checksum: nobody sent these images."""
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


def filled(ancestry: Sequence[V1ImageRow]) -> Sequence[V1ImageRow]:
    """Return those of an image and its ancestors whose layers a manifest names.

    It leaves out layers without files, unless there are no others: then the base's is named.
    """
    return [row for row in ancestry if row.diff_id not in empty_diff_ids()] or ancestry[-1:]


def check_sole(tx: Transaction, repository: RepositoryName, manifest: Digest) -> None:
    """Raise ImageExists if a manifest, which is made for another image, is that of one that a client pushed.

    The other's tags would be seen as this one from then on. An image that was derived gives way.
    """
    row = tx.manifests.find(repository, manifest)
    seen = tx.views.find(row.repository_id, manifest) if row else None
    image = tx.v1_images.find(repository, ImageId(seen)) if seen else None
    if image and image.checksum:
        raise ImageExists(id=image.id)


#: How often a tag may move while it is looked at.
_MOVES = 10


@dataclass(frozen=True, slots=True)
class Bridge:
    """What V1 clients see of a repository's tags, and what their tags become."""

    state: State
    uploads: Uploads
    manifests: Manifests
    v1_images: V1Images
    visibility: Visibility = field(default_factory=Visibility)

    def tag(
        self,
        repository: RepositoryName,
        tag: Tag,
        image: ImageId,
        *,
        condition: Precondition = UNCONDITIONAL,
        at: datetime | None = None,
        sole: bool = False,
    ) -> Digest:
        """Point the tag at the manifest of a V1 image, which is made if there is none yet; return that.

        Args: as of ``Manifests.retag``; *sole* as of ``check_sole``.

        Raises:
            ImageUnknown, ImageIncomplete, PreconditionFailed, ImageExists.
        """
        for _ in range(_MOVES):
            manifest = self._publish(repository, image, sole=sole)
            try:
                self.manifests.retag(repository, tag, manifest, Origin.V1, condition=condition, at=at)
            except ManifestUnknown:
                continue  # it was deleted meanwhile
            return manifest
        raise ImageUnknown(id=image)

    def _publish(self, repository: RepositoryName, image: ImageId, *, sole: bool) -> Digest:
        """Make and store the manifest of a V1 image; one that came as a manifest keeps it, digest and all."""
        ancestry = self.v1_images.ancestry(repository, image)
        if manifest := self.manifest_of(repository, image):
            return manifest
        made = manifest_from_chain(self._named_links(repository, ancestry))
        digest = Digest.of(made.payload)
        if sole:
            with self.state.catalog.read() as tx:
                check_sole(tx, repository, digest)
        self.uploads.ingest(repository, [made.config])
        self.manifests.put(repository, digest, made.media_type, made.payload, v1_view=image)
        return digest

    def refresh(self, repository: RepositoryName) -> None:
        """Work out the V1 view of every tagged manifest that has none yet.

        V2 traffic pays nothing for V1, nor do tags that V1 clients are not shown.
        """
        self._derive_all(repository, None, self.visibility.shown(repository, Origin.V1))

    def tags(self, repository: RepositoryName) -> dict[Tag, ImageId]:
        """Return the repository's tags as V1 clients see them; those they cannot use are left out.

        Raises:
            RepositoryUnknown: there is no such repository, or nothing in it for them.
        """
        tags = self._available(repository) | self._seen(repository)
        if not tags:
            raise RepositoryUnknown(name=repository)
        return tags

    def resolve(self, repository: RepositoryName, tag: Tag) -> ImageId:
        """Return the V1 image that the tag is seen as.

        Raises:
            TagUnknown: no such tag, or V1 clients cannot use its image.
        """
        tags, upstream = self._seen(repository, tag), self.state.upstream
        shown = upstream.origin in self.visibility.shown(repository, Origin.V1)
        if tag not in tags and shown and upstream.load(repository, tag):
            tags = self._seen(repository, tag)
        if tag not in tags:
            raise TagUnknown(tag=tag)
        return tags[tag]

    def images(self, repository: RepositoryName) -> tuple[ImageId, ...]:
        """Return the ids of all V1 images that the repository's content is seen as.

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
        """Return the V1 chain, base first, that a client pushed and the manifest was made of, if any."""
        with self.state.catalog.read() as tx:
            image = tx.views.find(row.repository_id, row.digest)
        if image is None:
            return None
        ancestry = self.v1_images.ancestry(repository, ImageId(image))
        pushed = all(member.checksum for member in ancestry)  # derived images have none
        return self._links(repository, ancestry) if pushed else None

    def seen_chain(self, repository: RepositoryName, tag: Tag, row: ManifestRow) -> tuple[Link, ...] | None:
        """Return the V1 chain, base first, that the tagged schema 1 manifest is, if its ids make one.

        It need not be what V1 clients see, who may know one of the ids as something else.
        """
        self._derive_all(repository, tag, frozenset(Origin))  # for a V2 client, whatever V1 clients are shown
        with self.state.catalog.read() as tx:
            image = tx.views.find(row.repository_id, row.digest)
        if image is None:
            return self._schema1_chain(row)
        return self._links(repository, self.v1_images.ancestry(repository, ImageId(image)))

    def _available(self, repository: RepositoryName) -> dict[Tag, ImageId]:
        """Return the tags that are not here yet, as V1 clients see them."""
        return v1_tags(self.state.upstream, repository, self.visibility.shown(repository, Origin.V1))

    def _seen(self, repository: RepositoryName, tag: Tag | None = None) -> dict[Tag, ImageId]:
        """Return the tags as V1 clients see them; one that is moved meanwhile is looked at again."""
        shown = self.visibility.shown(repository, Origin.V1)
        for _ in range(_MOVES):
            with self.state.catalog.read() as tx:
                seen = tx.views.tags(repository, tag, origins=shown)
            if seen.complete:
                break
            self._derive_all(repository, tag, shown)
        return seen.images

    def _named_links(self, repository: RepositoryName, ancestry: Sequence[V1ImageRow]) -> tuple[Link, ...]:
        """Return the chain, base first, for a manifest; layers that it leaves out stay as they are."""
        named = filled(ancestry)
        return tuple(self._link(repository, row, as_it_is=row not in named) for row in reversed(ancestry))

    def _links(self, repository: RepositoryName, ancestry: Sequence[V1ImageRow]) -> tuple[Link, ...]:
        return tuple(self._link(repository, member) for member in reversed(ancestry))

    def _link(self, repository: RepositoryName, row: V1ImageRow, *, as_it_is: bool = False) -> Link:
        """Return the image with its layer, unless *as_it_is* in a compression that manifests can name."""
        if row.layer is None or row.diff_id is None:
            raise ImageIncomplete(id=row.id)
        compression, blob = Compression.GZIP, BlobRow(row.layer, row.layer_size or 0)
        if not as_it_is:
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
        chosen = image is not None and image.media_type in media_types.SCHEMA1_TYPES
        rows = derived_rows(repository, chain)
        documents = [link.image.json for link in chain]
        if any(link.layer.digest == empty_layer().digest for link in chain):
            documents.append(EMPTY_LAYER)
        with self.state.staged(*documents) as uploads, self.state.catalog.begin() as tx:
            locked = tx.repositories.lock(repository.name, exclusive=chosen)
            if locked is None or not tx.manifests.held(repository.id, [row.digest]):
                return  # deleted meanwhile
            if chosen and tx.v1_images.contradicts(repository.id, rows):
                # Who signs schema 1 chooses the ids, and takes none that stands for something else.
                tx.views.record(repository.id, row.digest, None)
                return
            for upload, document in zip(uploads, documents, strict=True):
                self.state.admit(tx, repository, upload, BlobRow(Digest.of(document), len(document)))
            self.v1_images.record(tx, repository, rows)
            tx.views.record(repository.id, row.digest, chain[-1].image.id if chain else None)

    def _chain(self, image: ManifestRow) -> tuple[Link, ...] | None:
        """Return the chain, base first, that the image is seen as."""
        if image.media_type in media_types.SCHEMA1_TYPES:
            return self._schema1_chain(image)
        if image.media_type not in media_types.IMAGES:
            return None
        manifest = parse(image.media_type, self.manifests.payload(image))
        (config,) = manifest.described(Role.CONFIG)
        if not is_readable_config(config):
            return None
        return chain_from_manifest(manifest, self.manifests.documents.read(config.digest), empty_layer())

    def _schema1_chain(self, row: ManifestRow) -> tuple[Link, ...] | None:
        """Return the V1 chain that a schema 1 manifest holds; its layers are read for what is inside."""
        payload = self.manifests.payload(row)
        named = {child.descriptor.digest for child in schema1.contents(parse_object(payload)).children}
        with self.state.catalog.read() as tx:
            sizes = tx.blobs.linked(row.repository_id, named)
        try:
            layers = read_layers(self.state.store, sizes)
        except ImageInvalid:
            return None  # zstd, or damaged before it came here
        return chain_from_schema1(payload, layers)
