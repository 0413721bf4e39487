"""SQL of the garbage collection: candidates, what they are used by, and condemned blobs.

A link becomes a candidate when it is made, and when something that used its blob is dropped
(``catalog.candidates``). A blob is condemned when its last link goes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, or_, select, tuple_, update
from sqlalchemy.orm import aliased

from dualreg.catalog.blobs import not_used
from dualreg.catalog.candidates import note
from dualreg.catalog.deleted import is_kept
from dualreg.catalog.dialects import insert
from dualreg.catalog.rows import BlobRow
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    ManifestViews,
    Repositories,
    RepositoryBlobs,
    Tags,
    V1Images,
)
from dualreg.catalog.v1_images import idle, is_view
from dualreg.catalog.views import V1
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName


class Candidate(NamedTuple):
    """A link that may be garbage, and since when; *size* in bytes."""

    since: datetime
    repository_id: int
    digest: Digest
    size: int
    repository: RepositoryName


class Condemned(NamedTuple):
    """A blob without links, and since when; *size* in bytes."""

    since: datetime
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class GarbageQueries:
    """Links and blobs that may be garbage."""

    connection: Connection
    now: datetime

    def note(self, repository_id: int, *digests: Digest) -> None:
        """Note that the repository may not use blobs any longer, as ``candidates.note``."""
        if digests:
            note(self.connection, self.now, repository_id, *digests)

    def renew(self, repository: RepositoryName, digest: Digest, before: datetime) -> None:
        """Date a link now that was dated, or became a candidate, at *before* or earlier."""
        link = RepositoryBlobs
        owner = select(Repositories.id).where(Repositories.name == repository).scalar_subquery()
        found = (link.repository_id == owner) & (link.digest == digest)
        since = case((link.candidate_since.is_not(None), self.now), else_=None)
        old = func.coalesce(link.candidate_since, link.linked_at) <= before
        self.connection.execute(
            update(link).where(found, old).values(candidate_since=since, linked_at=self.now)
        )

    def candidates(
        self, before: datetime, after: Candidate | None, limit: int, *, untagged_before: datetime | None
    ) -> Sequence[Candidate]:
        """Return up to *limit* candidates of *before*, oldest first, those after *after*.

        Args:
            untagged_before: Leave out manifests that became candidates later; None: none.
        """
        link = RepositoryBlobs
        query = (
            select(link.candidate_since, link.repository_id, link.digest, Blobs.size, Repositories.name)
            .join(Blobs, Blobs.digest == link.digest)
            .join(Repositories, Repositories.id == link.repository_id)
            .where(link.candidate_since.is_not(None), link.candidate_since <= before)
            .order_by(link.candidate_since, link.repository_id, link.digest)
        )
        if untagged_before:
            query = query.where(or_(link.candidate_since <= untagged_before, ~_is_manifest()))
        if after:
            types = [link.candidate_since.type, link.repository_id.type, link.digest.type]
            place = tuple_(link.candidate_since, link.repository_id, link.digest)
            query = query.where(place > tuple_(*after[:3], types=types))
        rows = self.connection.execute(query.limit(limit))
        return [Candidate(row[0], row[1], row[2], row[3], RepositoryName(row[4])) for row in rows if row[0]]

    def lock(self, repository_id: int, digests: Collection[Digest], before: datetime) -> Sequence[Digest]:
        """Lock those of *digests* that are still candidates of *before*; leave out what others have locked.

        The rows of their blobs are locked, too.
        """
        blobs = select(Blobs.digest).where(Blobs.digest.in_(digests)).with_for_update(skip_locked=True)
        free = self.connection.scalars(blobs).all()
        found = (RepositoryBlobs.repository_id == repository_id) & RepositoryBlobs.digest.in_(free)
        links = select(RepositoryBlobs.digest).where(found, RepositoryBlobs.candidate_since <= before)
        # In the order of ``candidates.note``, so that transactions do not wait in a circle.
        return self.connection.scalars(links.order_by(RepositoryBlobs.digest).with_for_update()).all()

    def settle(self, repository_id: int, digests: Collection[Digest], *, keep_untagged: bool) -> None:
        """Note that those links are no candidates whose blobs are used.

        Args:
            keep_untagged: Manifests that nothing leads to count as used.
        """
        found = (RepositoryBlobs.repository_id == repository_id) & RepositoryBlobs.digest.in_(digests)
        unused = _unused_image_json() if keep_untagged else or_(_unused_image_json(), _is_unused_manifest())
        used = update(RepositoryBlobs).where(found, ~not_used(), ~unused)
        self.connection.execute(used.values(candidate_since=None))

    def unused_manifests(self, repository_id: int, digests: Collection[Digest]) -> frozenset[Digest]:
        """Return those of *digests* that are manifests which nothing leads to.

        That is no tag, no other manifest that names them or is seen as them, and no subject.
        """
        query = select(Manifests.digest).where(
            Manifests.repository_id == repository_id, Manifests.digest.in_(digests), _unused_manifest()
        )
        return frozenset(self.connection.scalars(query))

    def unused_images(
        self, repository_id: int, jsons: Collection[Digest], idle_since: datetime
    ) -> Sequence[ImageId]:
        """Return the V1 images with one of *jsons* that no manifest is seen as, and none builds on.

        Images that are not complete must also be idle since *idle_since*.
        """
        here = (V1Images.repository_id == repository_id) & V1Images.json.in_(jsons)
        query = select(V1Images.image_id).where(here, _unused_image(), idle(idle_since))
        return [ImageId(image) for image in self.connection.scalars(query)]

    def condemned(
        self, before: datetime, after: Condemned | None, limit: int, *, kept_since: datetime
    ) -> Sequence[Condemned]:
        """Return up to *limit* blobs that were condemned at *before* or earlier, after *after*.

        Args:
            kept_since: Leave out what is part of what was deleted later, and can be restored.
        """
        place = tuple_(Blobs.condemned_at, Blobs.digest)
        query = select(Blobs.condemned_at, Blobs.digest, Blobs.size)
        query = query.where(Blobs.condemned_at <= before, ~is_kept(kept_since))
        if after:
            types = [Blobs.condemned_at.type, Blobs.digest.type]
            query = query.where(place > tuple_(*after[:2], types=types))
        rows = self.connection.execute(query.order_by(Blobs.condemned_at, Blobs.digest).limit(limit))
        return [Condemned(row[0], row[1], row[2]) for row in rows if row[0]]

    def lock_condemned(
        self, digests: Collection[Digest], before: datetime, *, kept_since: datetime
    ) -> Sequence[Digest]:
        """Lock those of *digests* that ``condemned`` returns still; leave out what others locked."""
        query = select(Blobs.digest).where(Blobs.digest.in_(digests), Blobs.condemned_at <= before)
        query = query.where(~is_kept(kept_since))
        return self.connection.scalars(query.with_for_update(skip_locked=True)).all()

    def note_unused(self, after: tuple[int, Digest] | None, limit: int) -> tuple[int, Digest] | None:
        """Make candidates of those of *limit* links after *after* that nothing leads to.

        Return the last link that was looked at; None if there are no more.
        """
        link = RepositoryBlobs
        place = tuple_(link.repository_id, link.digest)
        query = select(link.repository_id, link.digest).order_by(link.repository_id, link.digest)
        if after:
            query = query.where(place > tuple_(*after, types=[link.repository_id.type, link.digest.type]))
        rows = self.connection.execute(query.limit(limit)).all()
        if not rows:
            return None
        first, last = (
            tuple_(*row, types=[link.repository_id.type, link.digest.type]) for row in (rows[0], rows[-1])
        )
        unused = or_(not_used(), _is_unused_manifest(), _unused_image_json())
        found = select(link.repository_id, link.digest).order_by(link.repository_id, link.digest)
        found = found.where(place >= first, place <= last, link.candidate_since.is_(None), unused)
        found = found.with_for_update(key_share=True)  # in the order of ``candidates.note``
        noted = update(link).where(place >= first, place <= last, place.in_(found))
        self.connection.execute(noted.values(candidate_since=self.now))
        return rows[-1][0], rows[-1][1]

    def condemn_unlinked(self, after: Digest | None, limit: int) -> Digest | None:
        """Condemn those of *limit* blobs after a digest that no repository links to; return the last one."""
        query = select(Blobs.digest).order_by(Blobs.digest).limit(limit)
        digests = self.connection.scalars(query if after is None else query.where(Blobs.digest > after)).all()
        if not digests:
            return None
        unlinked = Blobs.condemned_at.is_(None) & ~exists().where(RepositoryBlobs.digest == Blobs.digest)
        among = (Blobs.digest >= digests[0]) & (Blobs.digest <= digests[-1])
        free = select(Blobs.digest).where(among, unlinked).with_for_update(skip_locked=True)
        locked = self.connection.scalars(free).all()
        # Whoever held a lock before may have linked the blob: this statement sees that.
        found = update(Blobs).where(Blobs.digest.in_(locked), unlinked)
        self.connection.execute(found.values(condemned_at=self.now))
        return digests[-1]

    def adopt(self, orphans: Collection[BlobRow]) -> int:
        """Record and condemn bytes that are in the store without a row; return how many were new."""
        rows = [
            {"digest": each.digest, "size": each.size}
            | dict.fromkeys(("created_at", "verified_at", "condemned_at"), self.now)
            for each in sorted(orphans, key=lambda each: str(each.digest))
        ]
        if not rows:
            return 0
        statement = insert(self.connection, Blobs).on_conflict_do_nothing().returning(Blobs.digest)
        return len(self.connection.execute(statement, rows).all())

    def empty_repositories(
        self, before: datetime, after: RepositoryName | None, limit: int
    ) -> Sequence[RepositoryName]:
        """Return up to *limit* repositories without links, created at *before* or earlier, after a name."""
        linked = exists().where(RepositoryBlobs.repository_id == Repositories.id)
        query = select(Repositories.name).where(Repositories.created_at <= before, ~linked)
        query = query if after is None else query.where(Repositories.name > after)
        return [
            RepositoryName(name)
            for name in self.connection.scalars(query.order_by(Repositories.name).limit(limit))
        ]


def _unused_manifest() -> ColumnElement[bool]:
    """Return the condition that nothing leads to a row of Manifests."""
    subject = aliased(Manifests)
    here = Manifests.repository_id
    return and_(
        ~exists().where(Tags.repository_id == here, Tags.manifest == Manifests.digest),
        ~exists().where(ManifestChildren.repository_id == here, ManifestChildren.child == Manifests.digest),
        ~exists().where(
            ManifestViews.repository_id == here,
            ManifestViews.kind != V1,
            ManifestViews.view == Manifests.digest,
        ),
        ~exists().where(subject.repository_id == here, subject.digest == Manifests.subject),
    )


def _unused_image() -> ColumnElement[bool]:
    """Return the condition that nothing leads to a row of V1Images."""
    above, here = aliased(V1Images), V1Images.repository_id
    return and_(
        ~is_view(),
        ~exists().where(above.repository_id == here, above.parent_id == V1Images.image_id),
    )


def _is_manifest() -> ColumnElement[bool]:
    """Return the condition that a row of RepositoryBlobs is the link to a manifest."""
    return exists().where(_manifest_of_link())


def _is_unused_manifest() -> ColumnElement[bool]:
    """Return the condition that it is the link to a manifest that nothing leads to."""
    return exists().where(_manifest_of_link(), _unused_manifest())


def _manifest_of_link() -> ColumnElement[bool]:
    link = RepositoryBlobs
    return (Manifests.repository_id == link.repository_id) & (Manifests.digest == link.digest)


def _unused_image_json() -> ColumnElement[bool]:
    """Return the condition that it is the link to the JSON of a V1 image that nothing leads to."""
    link = RepositoryBlobs
    image = (V1Images.repository_id == link.repository_id) & (V1Images.json == link.digest)
    return exists().where(image, _unused_image())
