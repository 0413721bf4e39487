"""What V1 clients see tags as: of many at a time, by few statements, and without recording anything.

``Bridge.resolve`` records the view of each tag that it is asked for, which takes several waits for the disk.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dualreg.catalog.rows import Origin, V1ImageRow
from dualreg.catalog.views import SeenTag
from dualreg.image.convert import Link
from dualreg.image.digest import Digest
from dualreg.image.layer import have_same_files
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.v1_image import CHAIN_LIMIT
from dualreg.registry.chains import derived_rows
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.state import State
from dualreg.registry.v1_comparison import recorded_as
from dualreg.registry.visibility import Visibility

#: Images that some tags are seen as, of which all are in memory at once; more are found tag by tag.
_LIMIT = 30_000


@dataclass(frozen=True, slots=True)
class SeenImage:
    """A V1 image, and its JSON if that may not be stored."""

    row: V1ImageRow
    json: bytes | None = None


@dataclass(frozen=True, slots=True)
class V1Seen:
    """Finds what V1 clients see tags as.

    Attributes:
        visibility: Which tags they see.
    """

    state: State
    documents: DocumentCache
    visibility: Visibility

    def tags(self, repository: RepositoryName, tags: Collection[Tag]) -> dict[Tag, SeenTag]:
        """Return what *tags* are recorded to be seen as; none of them where upstream has to be asked."""
        if self.state.upstream.covers(repository):
            return {}
        shown = self.visibility.shown(repository, Origin.V1)
        with self.state.catalog.read() as tx:
            return tx.views.seen(repository, tags, origins=shown)

    def ancestries(
        self, repository: RepositoryName, images: Collection[ImageId]
    ) -> dict[ImageId, tuple[V1ImageRow, ...]]:
        """Return those of *images* that are complete, each with its ancestors, the base last.

        None are returned if they have too many ancestors together.
        """
        with self.state.catalog.read() as tx:
            row = tx.repositories.find(repository)
            parents = tx.views.parents(row.id, images, _LIMIT + 1) if row else {}
            if len(parents) > _LIMIT:
                return {}
            rows = tx.v1_images.complete_ones(row.id, parents) if row else {}
        chains = {image: [*_chain(parents, image)] for image in images if image in parents}
        return {
            image: tuple(rows[each] for each in chain)
            for image, chain in chains.items()
            if rows.keys() >= {*chain}
        }

    def foresee(
        self, repository: RepositoryName, chains: Mapping[Digest, Sequence[Link]]
    ) -> dict[Digest, tuple[V1ImageRow, ...]]:
        """Return the images, base first, that manifests will be seen as, whose views are not recorded.

        Those are left out of which the repository has another image under an ID, so that one gives way.

        Args:
            chains: What the manifests are derived to, which are not schema 1.
        """
        with self.state.catalog.read() as tx:
            row = tx.repositories.find(repository)
        if row is None:
            return {}
        derived = {digest: derived_rows(row, chain) for digest, chain in chains.items()}
        first = dict[ImageId, tuple[V1ImageRow, bytes]]()  # which others of its ID become
        for digest, chain in chains.items():
            for image, link in zip(derived[digest], chain, strict=True):
                first.setdefault(image.id, (image, link.image.json))
        recorded = recorded_as(self.state, self.documents, row, first.values())
        taken, known = {*recorded.contradicted}, {image.id: image for image in recorded.images}
        return {
            digest: tuple(known[image.id] for image in images)
            for digest, images in derived.items()
            if all(image.id not in taken and _are_same(image, first[image.id][0]) for image in images)
        }


def _chain(parents: Mapping[ImageId, ImageId | None], top: ImageId) -> Iterator[ImageId]:
    """Yield an image and its ancestors, the base last; no more than a chain may have."""
    image: ImageId | None = top
    for _ in range(CHAIN_LIMIT):
        if image is None:
            return
        yield image
        image = parents.get(image)


def _are_same(image: V1ImageRow, other: V1ImageRow) -> bool:
    """Return whether two derived images of one ID are the same, whatever compressed their layers."""
    described = (image.parent, image.json) == (other.parent, other.json)
    return described and have_same_files(image.diff_id, other.diff_id)
