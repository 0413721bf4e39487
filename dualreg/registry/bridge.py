"""Bridge: the images of one generation of clients, as the other generation sees them.

A V1 image becomes a manifest when a V1 client tags it (``Bridge.tag``). A manifest becomes a chain of V1
images, its V1 view, when a V1 client first reads tags (``Bridge.tags``, ``resolve``, ``images``): V2 traffic
pays nothing for it. Both are stored, so each is made once. An image that a client pushed has a payload
checksum; a derived one has none, and gives way to a pushed one.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from dualreg.catalog.rows import BlobRow, ManifestRow, Origin, V1ImageRow
from dualreg.errors import (
    ImageExists,
    ImageIncomplete,
    ImageInvalid,
    ImageUnknown,
    ManifestUnknown,
    RepositoryUnknown,
    TagUnknown,
    TooManyTags,
)
from dualreg.image.convert import Converted, Link, V1Layer, manifest_from_chain
from dualreg.image.digest import Digest
from dualreg.image.inflater import Compression
from dualreg.image.layer import empty_diff_ids
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.v1_image import V1Image
from dualreg.registry.chains import Chains
from dualreg.registry.manifests import Manifests
from dualreg.registry.pages import TAGS_LIMIT, require_short
from dualreg.registry.preconditions import UNCONDITIONAL, Precondition
from dualreg.registry.provenance import Provenance
from dualreg.registry.state import State
from dualreg.registry.uploads import Uploads
from dualreg.registry.upstream import available_v1_tags
from dualreg.registry.v1_images import V1Images
from dualreg.registry.v1_seen import V1Seen
from dualreg.registry.v1_views import V1Views
from dualreg.registry.visibility import Visibility

_log = logging.getLogger(__name__)

#: The largest JSON, in bytes, of all images of a chain.
CHAIN_JSON_LIMIT = 16 << 20
#: Tags that one request points, each in a transaction.
_MOVED_AT_ONCE = 1000
#: Characters of a User-Agent that are kept.
_AGENT_LIMIT = 255
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
    chains: Chains
    views: V1Views
    visibility: Visibility = field(default_factory=Visibility)

    def tag(
        self,
        repository: RepositoryName,
        tag: Tag,
        image: ImageId,
        *,
        condition: Precondition = UNCONDITIONAL,
        at: datetime | None = None,
        agent: str = "",
        refuse_duplicate: bool = False,
    ) -> Digest:
        """Point the tag at the manifest of a V1 image, making that if there is none; return its digest.

        Args:
            condition: What must hold of the tag.
            at: When the tag was pushed; None: now.
            agent: The ``User-Agent`` of the client that pushed it; what cannot be printed is left out.
            refuse_duplicate: Fail if the manifest is already that of another image which a client pushed:
                both have the same files and configuration, and one manifest can be seen as one image only.

        Raises:
            ImageUnknown, ImageIncomplete, PreconditionFailed.
            ImageInvalid: the JSONs of its chain are too large.
            ImageExists: with the ID of that other image.
        """
        agent = recorded_agent(agent)
        for _ in range(_ATTEMPTS):
            manifest = self._publish(repository, image, refuse_duplicate=refuse_duplicate)
            try:
                self.manifests.retag(
                    repository, tag, manifest, Origin.V1, condition=condition, at=at, agent=agent
                )
            except ManifestUnknown:
                continue  # it was deleted in the meantime
            return manifest
        raise ImageUnknown(id=image)

    def remake(self, repository: RepositoryName, image: ImageId) -> None:
        """Make and store the manifest of a V1 image, even if there is one: its documents may be lost.

        Raises:
            ImageUnknown, ImageIncomplete, ImageInvalid.
            ImageExists: the manifest is that of another image which a client pushed.
        """
        self._make(repository, image, self.v1_images.ancestry(repository, image), refuse_duplicate=True)

    def _publish(self, repository: RepositoryName, image: ImageId, *, refuse_duplicate: bool) -> Digest:
        """Return the manifest of a V1 image; make and store it unless the image has one already."""
        ancestry = self.v1_images.ancestry(repository, image)
        manifest = self.manifest_of(repository, image)
        return manifest or self._make(repository, image, ancestry, refuse_duplicate=refuse_duplicate)

    def _make(
        self,
        repository: RepositoryName,
        image: ImageId,
        ancestry: Sequence[V1ImageRow],
        *,
        refuse_duplicate: bool,
    ) -> Digest:
        links = self.named_links(repository, ancestry)
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
        self.manifests.put(repository, digest, made.media_type, made.payload, provenance=Provenance(image))
        return digest

    def tag_all(self, repository: RepositoryName, tags: Mapping[Tag, ImageId]) -> None:
        """Point tags at their images, except those that do already and images that the repository lacks.

        Raises:
            TooManyTags: there are too many to point at once; none was.
        """
        known, current = frozenset[ImageId](), dict[Tag, ImageId]()
        if tags:
            with suppress(RepositoryUnknown):
                known = frozenset(self.images(repository))
                current = self.tags(repository)
        moved = {tag: image for tag, image in tags.items() if image in known and current.get(tag) != image}
        if len(moved) > _MOVED_AT_ONCE:
            raise TooManyTags(limit=_MOVED_AT_ONCE)
        for tag, image in moved.items():
            with suppress(ImageUnknown, ImageIncomplete):  # deleted meanwhile
                self.tag(repository, tag, image)
        self.state.catalog.settle()

    def prepare(self, repository: RepositoryName) -> None:
        """Make the repository known, and show V1 clients all of it that they can use, before one pushes."""
        with self.state.begin() as tx:
            tx.repositories.ensure(repository)
        self._refresh(repository)

    def _refresh(self, repository: RepositoryName) -> None:
        """Derive the V1 view of every tagged manifest that has none yet, if V1 clients see the tag."""
        self.views.derive_all(repository, None, self.visibility.shown(repository, Origin.V1))

    def tags(self, repository: RepositoryName) -> dict[Tag, ImageId]:
        """Return the repository's tags with their V1 images; tags without a V1 view are left out.

        Raises:
            RepositoryUnknown: there is no such repository, or none of its tags has a V1 view.
            ListTooLong, ViewsPending.
        """
        tags = self._available(repository) | self._seen(repository)
        if not tags:
            raise RepositoryUnknown(name=repository)
        return tags

    def unseen(self, repository: RepositoryName) -> tuple[Tag, ...]:
        """Return the tags that V1 clients cannot see as an image, in byte order.

        That is found out when V1 clients first read the tags.
        """
        with self.state.catalog.read() as tx:
            return tx.views.unseen(repository)

    def resolve(self, repository: RepositoryName, tag: Tag) -> ImageId:
        """Return the V1 image that the tag is seen as.

        Raises:
            TagUnknown: there is no such tag, or it has no V1 view.
        """
        tags, upstream = self._seen(repository, tag), self.state.upstream
        shown = upstream.origin_of(repository) in self.visibility.shown(repository, Origin.V1)
        if shown and (tag not in tags or self._is_due(repository, tag)) and upstream.load(repository, tag):
            tags = self._seen(repository, tag)
        if tag not in tags:
            raise TagUnknown(tag=tag)
        return tags[tag]

    @property
    def seen(self) -> V1Seen:
        """What finds what V1 clients see many tags as."""
        return V1Seen(self.state, self.manifests.documents, self.visibility)

    def _is_due(self, repository: RepositoryName, tag: Tag) -> bool:
        """Return whether upstream may have something newer for a tag that is here; read that only then."""
        upstream = self.state.upstream
        return upstream.covers(repository) and upstream.is_due(
            repository, tag, self.manifests.peek(repository, tag)
        )

    def images(self, repository: RepositoryName) -> tuple[ImageId, ...]:
        """Return the IDs of the repository's V1 images: pushed ones, views of its tags, and their ancestors.

        Raises:
            RepositoryUnknown, ListTooLong, ViewsPending.
        """
        available = self._available(repository)
        self._refresh(repository)
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

    def pushed_images(self, repository: RepositoryName, row: ManifestRow) -> tuple[V1ImageRow, ...]:
        """Return the V1 images, base first, that a manifest is seen as; none if no client pushed any."""
        image = self.view_of(row)
        ancestry = self.v1_images.peek_ancestry(repository, image) if image else ()
        return ancestry[::-1] if any(each.checksum for each in ancestry) else ()

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
        self.views.derive_all(repository, tag, frozenset(Origin))  # of a V2 client: visibility is not asked
        return self.view_chain(repository, row) or self.chains.of_schema1(row)

    def view_chain(self, repository: RepositoryName, row: ManifestRow) -> tuple[Link, ...] | None:
        """Return the V1 view of a manifest as a chain, base first; None unless one is recorded."""
        image = self.view_of(row)
        return self._links(repository, self.v1_images.ancestry(repository, image)) if image else None

    def _available(self, repository: RepositoryName) -> dict[Tag, ImageId]:
        """Return the tags that only upstream has, as V1 clients see them."""
        upstream, known = self.state.upstream, tuple[Tag, ...]()
        if upstream.covers(repository):
            with self.state.catalog.read() as tx:
                known = tx.tags.list(repository, last="", limit=None) or ()
        return available_v1_tags(upstream, repository, self.visibility.shown(repository, Origin.V1), known)

    def _seen(self, repository: RepositoryName, tag: Tag | None = None) -> dict[Tag, ImageId]:
        """Return the tags as V1 clients see them; start over if one is moved in the meantime."""
        shown = self.visibility.shown(repository, Origin.V1)
        for _ in range(_ATTEMPTS):
            with self.state.catalog.read() as tx:
                seen = tx.views.tags(repository, tag, origins=shown, limit=TAGS_LIMIT + 1)
            require_short(repository, seen.total, TAGS_LIMIT, "tags")
            if seen.complete or not self.views.derive_all(repository, tag, shown):
                break
        return seen.images

    def named_links(self, repository: RepositoryName, ancestry: Sequence[V1ImageRow]) -> tuple[Link, ...]:
        """Return the chain, base first, that a manifest is made from.

        Layers whose compression has no media type are stored as gzip, too, except empty ones.
        """
        named = non_empty(ancestry)
        links = (self._link(repository, row, recompress=row in named) for row in reversed(ancestry))
        return tuple(_bounded(links))

    def _links(self, repository: RepositoryName, ancestry: Sequence[V1ImageRow]) -> tuple[Link, ...]:
        return tuple(_bounded(self._link(repository, member) for member in reversed(ancestry)))

    def _link(self, repository: RepositoryName, row: V1ImageRow, *, recompress: bool = True) -> Link:
        """Return the image with its layer.

        Args:
            recompress: Compress it with gzip if V2 clients cannot read it as it is.
        """
        if row.layer is None or row.diff_id is None:
            raise ImageIncomplete(id=row.id)
        blob, compression = BlobRow(row.layer, row.layer_size or 0), Compression.GZIP
        if recompress:
            blob, compression = self.chains.layers.for_v2(repository, blob)
        image = V1Image(row.id, row.parent, self.v1_images.json(row))
        return Link(image, V1Layer(blob.digest, blob.size, row.diff_id, compression))


def recorded_agent(agent: str) -> str:
    """Return a User-Agent as it is recorded."""
    return "".join(filter(str.isprintable, agent))[:_AGENT_LIMIT]


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
        if total > CHAIN_JSON_LIMIT:
            raise ImageInvalid(
                reason=f"the JSONs of the image's chain have more than {CHAIN_JSON_LIMIT} bytes"
            )
        yield link
