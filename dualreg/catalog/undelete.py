"""SQL of what was deleted and can be restored."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    delete,
    exists,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import aliased

from dualreg.catalog.deleted import (
    IMAGE_COLUMNS,
    DeletedImage,
    DeletedManifest,
    KeptBytes,
    Part,
    left_at,
    record,
)
from dualreg.catalog.dialects import batches, insert
from dualreg.catalog.rows import Origin, RepositoryRow
from dualreg.catalog.tables import (
    Blobs,
    DeletedBlobs,
    DeletedImages,
    DeletedManifests,
    DeletedRepositories,
    TagHistory,
)
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.names import ImageId, RepositoryName, Tag


@dataclass(frozen=True, slots=True)
class UndeleteQueries:
    """What was deleted, by the names of repositories."""

    connection: Connection
    now: datetime

    def record(
        self, repository: RepositoryRow, manifests: Collection[Digest], at: datetime | None = None
    ) -> None:
        """Record manifests that are about to be deleted, as ``deleted.record``; *at* None: now."""
        record(self.connection, repository, manifests, at or self.now)

    def left_at(
        self, repository: RepositoryRow, manifests: Collection[Digest], since: datetime
    ) -> Mapping[Digest, datetime]:
        """Return when something that can be restored needed *manifests* last, as ``deleted.left_at``."""
        return left_at(self.connection, repository, manifests, since)

    def begin_repository(self, name: RepositoryName) -> None:
        """Record that the deletion of a repository begins, unless it has begun and did not end."""
        row = insert(self.connection, DeletedRepositories)
        again = row.on_conflict_do_update(
            index_elements=[DeletedRepositories.name],
            set_={"began_at": row.excluded.began_at, "ended_at": None},
            where=DeletedRepositories.ended_at.is_not(None),
        )
        self.connection.execute(again, {"name": name, "began_at": self.now, "ended_at": None})

    def end_repository(self, name: RepositoryName) -> None:
        """Record that the deletion of a repository has ended."""
        row = update(DeletedRepositories).where(DeletedRepositories.name == name)
        self.connection.execute(row.values(ended_at=self.now))

    def began_at(self, name: RepositoryName) -> datetime | None:
        """Return when the last deletion of a repository began; None: it was not deleted, or long ago."""
        query = select(DeletedRepositories.began_at).where(DeletedRepositories.name == name)
        return self.connection.scalar(query)

    def find(self, repository: RepositoryName, digests: Collection[Digest]) -> dict[Digest, DeletedManifest]:
        """Return those of *digests* that are deleted manifests of a repository."""
        found = (
            row
            for batch in batches(digests)
            for row in self.connection.execute(
                _manifests(repository).where(DeletedManifests.digest.in_(batch))
            )
        )
        return {row[0]: _manifest(row) for row in found}

    def referrers(self, repository: RepositoryName, subject: DeletedManifest) -> list[DeletedManifest]:
        """Return the deleted manifests about another one that were deleted with it, or later."""
        query = _manifests(repository).where(DeletedManifests.subject == subject.digest)
        query = query.where(DeletedManifests.deleted_at >= subject.deleted_at)
        return [_manifest(row) for row in self.connection.execute(query.order_by(DeletedManifests.digest))]

    def since(
        self, repository: RepositoryName, since: datetime, after: tuple[datetime, Digest] | None, limit: int
    ) -> list[DeletedManifest]:
        """Return up to *limit* manifests that were deleted at *since* or later, oldest deletion first.

        Args:
            after: When the last one of the page before was deleted, and its digest.
        """
        row = DeletedManifests
        query = _manifests(repository).where(row.deleted_at >= since)
        if after:
            types = [row.deleted_at.type, row.digest.type]
            query = query.where(tuple_(row.deleted_at, row.digest) > tuple_(*after, types=types))
        query = query.order_by(row.deleted_at, row.digest).limit(limit)
        return [_manifest(each) for each in self.connection.execute(query)]

    def count(self, repository: RepositoryName, since: datetime | None = None) -> int:
        """Return how many manifests of a repository were deleted, at *since* or later if it is given."""
        query = select(func.count()).where(DeletedManifests.repository == repository)
        query = query.where(DeletedManifests.deleted_at >= since) if since else query
        return self.connection.scalar(query) or 0

    def deleted_tags(
        self, repository: RepositoryName, since: datetime, after: str, limit: int
    ) -> list[tuple[Tag, Digest, Origin]]:
        """Return up to *limit* tags that were deleted at *since* or later, and not moved again, by name.

        With where they pointed, and their origin.

        Args:
            after: The last one of the page before.
        """
        row = TagHistory
        query = select(row.tag, row.old, row.origin).where(_deleted(repository, since), row.tag > after)
        found = self.connection.execute(query.order_by(row.tag).limit(limit))
        return [(Tag(tag), old, Origin(origin)) for tag, old, origin in found if old]

    def count_deleted_tags(self, repository: RepositoryName, since: datetime) -> int:
        """Return how many tags were deleted at *since* or later, and not moved again."""
        query = select(func.count()).select_from(TagHistory).where(_deleted(repository, since))
        return self.connection.scalar(query) or 0

    def named(self, repository: RepositoryName, manifests: Collection[Digest]) -> frozenset[Digest]:
        """Return those of *manifests* that deleted ones name."""
        part = DeletedBlobs
        query = select(part.digest).where(part.repository == repository, part.role == Role.MANIFEST)
        return frozenset(
            digest
            for batch in batches(manifests)
            for digest in self.connection.scalars(query.where(part.digest.in_(batch)).distinct())
        )

    def parts(self, repository: RepositoryName, owners: Iterable[str | Digest]) -> list[Part]:
        """Return what deleted manifests and V1 images consist of."""
        query = select(DeletedBlobs.owner, DeletedBlobs.role, DeletedBlobs.digest)
        query = query.where(DeletedBlobs.repository == repository)
        return [
            Part(*row)
            for batch in batches(map(str, owners))
            for row in self.connection.execute(query.where(DeletedBlobs.owner.in_(batch)))
        ]

    def ancestry(self, repository: RepositoryName, top: ImageId) -> list[DeletedImage]:
        """Return a deleted V1 image and its ancestors, base first."""
        row = DeletedImages
        columns = [getattr(row, each) for each in IMAGE_COLUMNS]
        query = select(*columns, Blobs.size).join(Blobs, Blobs.digest == row.layer)
        query, found, wanted = query.where(row.repository == repository), list[DeletedImage](), top
        while (
            image := self.connection.execute(query.where(row.image_id == wanted)).one_or_none()
        ) is not None:
            found.append(DeletedImage(*tuple(image)))
            if found[-1].parent is None:
                break
            wanted = ImageId(found[-1].parent)
        return found[::-1]

    def revive(self, digests: Collection[Digest]) -> dict[Digest, int]:
        """Lock the rows of blobs, which are condemned no longer; return the sizes of those that exist."""
        found = dict[Digest, int]()
        for batch in batches(sorted({*digests}, key=str)):
            locked = select(Blobs.digest).where(Blobs.digest.in_(batch)).order_by(Blobs.digest)
            self.connection.execute(locked.with_for_update()).all()
            revived = update(Blobs).where(Blobs.digest.in_(batch)).values(condemned_at=None)
            found |= {
                row[0]: row[1] for row in self.connection.execute(revived.returning(Blobs.digest, Blobs.size))
            }
        return found

    def forget(self, repository: RepositoryName, manifests: Collection[Digest]) -> None:
        """Forget deleted manifests, and V1 images that no other one is seen as, or builds on."""
        deleted, image = DeletedManifests, DeletedImages
        for batch in batches(manifests):
            own = (deleted.repository == repository) & deleted.digest.in_(batch)
            self.connection.execute(delete(deleted).where(own))
            self._forget_parts(repository, [*map(str, batch)])
        here = image.repository == repository
        if self.connection.scalar(select(image.image_id).where(here).limit(1)) is None:
            return
        seen = select(deleted.v1_view).where(deleted.repository == repository, deleted.v1_view.is_not(None))
        rows = select(image.image_id, image.parent_id).where(here)
        needed = rows.where(image.image_id.in_(seen)).cte("needed", recursive=True)
        needed = needed.union(rows.join(needed, image.image_id == needed.c.parent_id))
        unseen = select(image.image_id).where(here, image.image_id.not_in(select(needed.c.image_id)))
        for images in batches(self.connection.scalars(unseen).all()):
            self._forget_parts(repository, images)
            self.connection.execute(delete(image).where(here, image.image_id.in_(images)))

    def _forget_parts(self, repository: RepositoryName, owners: Iterable[str]) -> None:
        for batch in batches(owners):
            own = (DeletedBlobs.repository == repository) & DeletedBlobs.owner.in_(batch)
            self.connection.execute(delete(DeletedBlobs).where(own))

    def forget_repository(self, repository: RepositoryName) -> int:
        """Forget all that was deleted from a repository; return how many manifests that were."""
        gone = self.connection.execute(
            delete(DeletedManifests).where(DeletedManifests.repository == repository)
        ).rowcount
        for table in (DeletedImages, DeletedBlobs):
            self.connection.execute(delete(table).where(table.repository == repository))
        self.connection.execute(delete(DeletedRepositories).where(DeletedRepositories.name == repository))
        return gone

    def expire(self, before: datetime, limit: int) -> int:
        """Forget up to *limit* rows of each kind, deleted at *before* or earlier; return how many."""
        gone = 0
        for table, time in (
            (DeletedRepositories, DeletedRepositories.began_at),  # first, as who deletes one locks them
            (DeletedManifests, DeletedManifests.deleted_at),
            (DeletedImages, DeletedImages.deleted_at),
            (DeletedBlobs, DeletedBlobs.deleted_at),
        ):
            keys = [*table.__table__.primary_key]
            old = select(*keys).where(time <= before).order_by(time).limit(limit)
            found = delete(table).where(tuple_(*keys).in_(old))
            gone += self.connection.execute(found).rowcount
        return gone

    def kept(self, since: datetime) -> KeptBytes:
        """Return what is kept because it was deleted after *since*, and no repository has."""
        part = DeletedBlobs
        query = (
            select(Blobs.size, func.max(part.deleted_at, type_=part.deleted_at.type).label("last"))
            .join(part, part.digest == Blobs.digest)
            .where(Blobs.condemned_at.is_not(None), part.deleted_at > since)
            .group_by(Blobs.digest, Blobs.size)
            .subquery("kept")
        )
        sums = select(
            func.count(),
            func.coalesce(func.sum(query.c.size), 0),
            func.max(query.c.last, type_=part.deleted_at.type),
        )
        count, size, last = self.connection.execute(sums.select_from(query)).one()
        return KeptBytes(count, int(size), last)


def _deleted(repository: RepositoryName, since: datetime) -> ColumnElement[bool]:
    """Return the condition that the last move of a tag is its deletion, at *since* or later."""
    row, later = TagHistory, aliased(TagHistory)
    newer = exists().where(
        later.repository == row.repository,
        later.tag == row.tag,
        tuple_(later.at, later.id) > tuple_(row.at, row.id),
    )
    here = (row.repository == repository) & (row.at >= since)
    return here & row.new.is_(None) & row.old.is_not(None) & ~newer


def _manifests(repository: RepositoryName) -> Select[*tuple[Any, ...]]:
    row = DeletedManifests
    columns = (row.digest, row.media_type, row.subject, row.v1_view, row.pushed_at, row.deleted_at)
    return select(*columns).where(row.repository == repository)


def _manifest(row: Any) -> DeletedManifest:  # noqa: ANN401 -- of ``_manifests``
    return DeletedManifest(*row)
