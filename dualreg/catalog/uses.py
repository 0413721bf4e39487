"""SQL of uses: what keeps a blob in a repository, one step up at a time.

Within a repository, a node is a digest, of a manifest or another blob, or the id of a V1 image. Every step
looks into indexes only, so that its cost follows what it finds.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, exists, func, literal, select, union
from sqlalchemy.orm import aliased

from dualreg.catalog.dialects import batches
from dualreg.catalog.rows import RepositoryRow
from dualreg.catalog.sharing import LayerUse, sharing_of
from dualreg.catalog.tables import (
    Blobs,
    DeletedBlobs,
    ManifestChildren,
    Manifests,
    ManifestViews,
    Repositories,
    RepositoryBlobs,
    Tags,
    V1Images,
)
from dualreg.catalog.views import V1, kinds_of_manifests
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.names import RepositoryName
from dualreg.patterns import Reach


class Use(NamedTuple):
    """That *above* keeps *below*: nodes, or a tag; *kind* is what the one below is to the other."""

    below: str
    kind: str
    above: str


class Stored(NamedTuple):
    """A blob of the catalog: its size in bytes, when the last link to it went, and how many there are.

    Attributes:
        deleted_at: When something that consists of it was last deleted, and can be restored; None: nothing.
    """

    size: int
    condemned_at: datetime | None
    links: int
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class UseQueries:
    """What keeps blobs."""

    connection: Connection

    def stored(self, digest: Digest) -> Stored | None:
        """Return what the catalog has of a blob; None if it does not know it."""
        links = select(func.count()).where(RepositoryBlobs.digest == digest).scalar_subquery()
        deleted = select(func.max(DeletedBlobs.deleted_at, type_=DeletedBlobs.deleted_at.type))
        deleted = deleted.where(DeletedBlobs.digest == digest)
        query = select(Blobs.size, Blobs.condemned_at, links, deleted.scalar_subquery())
        row = self.connection.execute(query.where(Blobs.digest == digest)).one_or_none()
        return None if row is None else Stored(row[0], row[1], row[2] or 0, row[3])

    def holders(self, digest: Digest, limit: int) -> Sequence[RepositoryRow]:
        """Return up to *limit* repositories that link the blob, by name."""
        query = select(Repositories.id, Repositories.name).join(
            RepositoryBlobs, RepositoryBlobs.repository_id == Repositories.id
        )
        query = query.where(RepositoryBlobs.digest == digest).order_by(Repositories.name).limit(limit)
        return [RepositoryRow(row[0], RepositoryName(row[1])) for row in self.connection.execute(query)]

    def above(self, repository_id: int, nodes: Collection[str]) -> Iterator[Use]:
        """Yield what keeps *nodes* in the repository, but for tags."""
        for batch in batches(nodes):
            digests = [Digest.parse(node) for node in batch if ":" in node]
            images = [node for node in batch if ":" not in node]
            for query in (*_above_blobs(repository_id, digests), *_above_images(repository_id, images)):
                for below, kind, above, *_ in self.connection.execute(query):
                    yield Use(str(below), str(kind), str(above))

    def vouching(self, repository_id: int, digests: Sequence[Digest], limit: int) -> Sequence[Digest]:
        """Return indexes that list some manifests, and images that these were made of: the last pushed ones.

        Args:
            digests: A batch of manifests.
        """
        listing = select(ManifestChildren.manifest).where(
            ManifestChildren.repository_id == repository_id,
            ManifestChildren.child.in_(digests),
            ManifestChildren.role == Role.MANIFEST.value,
        )
        made = select(ManifestViews.manifest).where(
            ManifestViews.repository_id == repository_id,
            ManifestViews.kind.in_(kinds_of_manifests(repository_id)),
            ManifestViews.view.in_([*map(str, digests)]),
        )
        found = Manifests.digest.in_(union(listing, made))
        query = select(Manifests.digest).where(Manifests.repository_id == repository_id, found)
        last = query.order_by(Manifests.pushed_at.desc(), Manifests.digest).limit(limit)
        return self.connection.scalars(last).all()

    def tags(self, repository_id: int, nodes: Collection[str]) -> Iterator[Use]:
        """Yield the tags that point at those of *nodes* that are manifests, by name."""
        for batch in batches(node for node in nodes if ":" in node):
            query = select(Tags.manifest, literal("manifest"), Tags.name).order_by(Tags.name)
            found = Tags.repository_id == repository_id, Tags.manifest.in_([*map(Digest.parse, batch)])
            for below, kind, above in self.connection.execute(query.where(*found)):
                yield Use(str(below), kind, above)

    def sharing(self, repository_id: int, layers: Collection[Digest], reach: Reach) -> dict[Digest, LayerUse]:
        """Return how many images have each of *layers*, in the repository and others of *reach*."""
        return sharing_of(self.connection, repository_id, layers, reach)

    def is_manifest(self, repository_id: int, digest: Digest) -> bool:
        """Return whether the blob is a manifest of the repository."""
        own = Manifests.repository_id == repository_id, Manifests.digest == digest
        return bool(self.connection.scalar(select(exists().where(*own))))

    def noted_at(self, repository_id: int, node: str) -> datetime | None:
        """Return since when a node is a candidate of the garbage collection; None if it is none."""
        json = select(V1Images.json).where(V1Images.repository_id == repository_id, V1Images.image_id == node)
        digest = Digest.parse(node) if ":" in node else json.scalar_subquery()
        query = select(RepositoryBlobs.candidate_since).where(
            RepositoryBlobs.repository_id == repository_id, RepositoryBlobs.digest == digest
        )
        return self.connection.scalar(query)


def _above_blobs(repository_id: int, digests: Collection[Digest]) -> Iterator[Select[*tuple[Any, ...]]]:
    """Yield queries of the uses of manifests and other blobs."""
    if not digests:
        return
    children, subject = ManifestChildren, aliased(Manifests)
    # As ``ManifestQueries.parents``.
    yield select(children.child, children.role, children.manifest, children.position).where(
        children.repository_id == repository_id, children.child.in_(digests)
    )
    yield (
        select(Manifests.digest, literal("referrer"), Manifests.subject)
        .join(subject, (subject.repository_id == repository_id) & (subject.digest == Manifests.subject))
        .where(Manifests.repository_id == repository_id, Manifests.digest.in_(digests))
    )
    yield select(ManifestViews.view, literal("conversion"), ManifestViews.manifest).where(
        ManifestViews.repository_id == repository_id,
        ManifestViews.kind.in_(kinds_of_manifests(repository_id)),
        ManifestViews.view.in_([*map(str, digests)]),
    )
    for column, kind in ((V1Images.json, "JSON"), (V1Images.layer, "layer")):
        yield select(column, literal(kind), V1Images.image_id).where(
            V1Images.repository_id == repository_id, column.in_(digests)
        )


def _above_images(repository_id: int, images: Collection[str]) -> Iterator[Select[*tuple[Any, ...]]]:
    """Yield queries of the uses of V1 images."""
    if not images:
        return
    yield select(ManifestViews.view, literal("V1 image"), ManifestViews.manifest).where(
        ManifestViews.repository_id == repository_id,
        ManifestViews.kind == V1,
        ManifestViews.view.in_(images),
    )
    yield select(V1Images.parent_id, literal("parent"), V1Images.image_id).where(
        V1Images.repository_id == repository_id, V1Images.parent_id.in_(images)
    )
