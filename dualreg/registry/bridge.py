"""Bridge: one generation's images as the other's.

A V1 tag publishes a manifest; a V1 read derives a chain, once.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dualreg.catalog.rows import BlobRow, ManifestRow, Origin, RepositoryRow, V1ImageRow
from dualreg.errors import (
    ImageIncomplete,
    ImageInvalid,
    ImageUnknown,
    ManifestUnknown,
    RepositoryUnknown,
    TagUnknown,
)
from dualreg.image import media_types
from dualreg.image.convert import Link, V1Layer, chain_from_manifest, manifest_from_chain
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats import Role, schema1
from dualreg.image.layer import EMPTY_LAYER, Compression, empty_layer, regzip
from dualreg.image.manifest import parse
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.schema1 import chain_from_schema1
from dualreg.image.v1_image import V1Image
from dualreg.registry.conditions import UNCONDITIONAL, Condition
from dualreg.registry.derived import check_sole, derived_rows, filled, is_readable_config, read_layers
from dualreg.registry.legacy import v1_tags
from dualreg.registry.manifests import Manifests
from dualreg.registry.state import State
from dualreg.registry.uploads import Uploads
from dualreg.registry.v1_images import V1Images
from dualreg.registry.visibility import Visibility
from dualreg.storage.base import read_chunks

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
        condition: Condition = UNCONDITIONAL,
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
        with self.state.catalog.read() as tx:
            row = tx.repositories.find(repository)
            manifest = row and tx.views.manifest_of(row.id, image)
        if manifest:
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
        tags = self._offered(repository) | self._seen(repository)
        if not tags:
            raise RepositoryUnknown(name=repository)
        return tags

    def resolve(self, repository: RepositoryName, tag: Tag) -> ImageId:
        """Return the V1 image that the tag is seen as.

        Raises:
            TagUnknown: no such tag, or V1 clients cannot use its image.
        """
        tags, legacy = self._seen(repository, tag), self.state.legacy
        shown = legacy.origin in self.visibility.shown(repository, Origin.V1)
        if tag not in tags and shown and legacy.bring(repository, tag):
            tags = self._seen(repository, tag)
        if tag not in tags:
            raise TagUnknown(tag=tag)
        return tags[tag]

    def images(self, repository: RepositoryName) -> tuple[ImageId, ...]:
        """Return the ids of all V1 images that the repository's content is seen as.

        Raises:
            RepositoryUnknown.
        """
        offered = self._offered(repository)
        self.refresh(repository)
        return self.v1_images.list(repository, offered.values())

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

    def _offered(self, repository: RepositoryName) -> dict[Tag, ImageId]:
        """Return the tags that are not here yet, as V1 clients see them."""
        return v1_tags(self.state.legacy, repository, self.visibility.shown(repository, Origin.V1))

    def _seen(self, repository: RepositoryName, tag: Tag | None = None) -> dict[Tag, ImageId]:
        """Return the tags as V1 clients see them; one that is moved meanwhile is looked at again."""
        shown = self.visibility.shown(repository, Origin.V1)
        for _ in range(_MOVES):
            with self.state.catalog.read() as tx:
                seen = tx.views.tags(repository, tag, origins=shown)
            if seen.whole:
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
        return chain_from_manifest(manifest, self.manifests.payloads.read(config.digest), empty_layer())

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
