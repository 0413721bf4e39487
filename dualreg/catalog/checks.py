"""SQL of checks: rows to compare with the store, some after a key at a time, and what damage hurts."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.orm import aliased

from dualreg.catalog.dialects import as_number, batches
from dualreg.catalog.rows import BlobRow
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    ManifestViews,
    MissingChildren,
    Repositories,
    RepositoryBlobs,
    Tags,
    V1Images,
)
from dualreg.catalog.views import V1
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.names import ImageId, Tag

#: Rows that are returned at a time, and places of each sort that a finding names at most.
BATCH, PLACES = 500, 100


class Users(NamedTuple):
    """What uses a blob.

    Attributes:
        repositories: Those that link it.
        tags: As ``repository:tag``, of manifests that are, name or lead to it, or whose V1 images need it.
        media_types: Those of the manifests.
        is_signed: Whether it is the signed form of a schema 1 manifest.
        images: V1 images whose JSON or layer it is.
    """

    repositories: Sequence[str]
    tags: Sequence[str]
    media_types: frozenset[str]
    is_signed: bool
    images: Sequence[str]


class Stale(NamedTuple):
    """Which blobs are to be verified again.

    Attributes:
        before: They were last verified before.
        repositories: They are linked to one of these, if any is given.
        damaged: Whether they were known to be damaged then; None: either.
    """

    before: datetime
    repositories: Collection[str] = ()
    damaged: bool | None = None


@dataclass(frozen=True, slots=True)
class CheckQueries:
    """The rows that say what the store must have."""

    connection: Connection

    def blobs(self, after: Digest | None, repositories: Collection[str] = ()) -> Sequence[BlobRow]:
        """Return some blobs after a digest; only those that one of *repositories* links, if any is given."""
        query = select(Blobs.digest, Blobs.size).where(*_linked_in(repositories))
        query = query if after is None else query.where(Blobs.digest > after)
        rows = self.connection.execute(query.order_by(Blobs.digest).limit(BATCH))
        return [BlobRow(*row) for row in rows]

    def stalest(
        self, stale: Stale, after: tuple[datetime, Digest] | None
    ) -> Sequence[tuple[datetime, BlobRow]]:
        """Return some stale blobs after a place, with the times when they were verified, the oldest first."""
        query = select(Blobs.verified_at, Blobs.digest, Blobs.size).where(*_matching(stale, after))
        rows = self.connection.execute(query.order_by(Blobs.verified_at, Blobs.digest).limit(BATCH))
        return [(row[0], BlobRow(row[1], row[2])) for row in rows]

    def all_verified_since(self) -> datetime | None:
        """Return since when every blob was verified that is not damaged; None: there are no others."""
        oldest = select(Blobs.verified_at).where(_is_sound()).order_by(Blobs.verified_at)
        return self.connection.scalar(oldest.limit(1))

    def verified_before(self, digests: Collection[Digest], before: datetime) -> list[BlobRow]:
        """Return those of *digests* that were last verified before an instant."""
        query = select(Blobs.digest, Blobs.size).where(Blobs.verified_at < before)
        return [
            BlobRow(*row)
            for batch in batches(digests)
            for row in self.connection.execute(query.where(Blobs.digest.in_(batch)))
        ]

    def total(self, stale: Stale, after: tuple[datetime, Digest] | None = None) -> int:
        """Return how many stale blobs there are after a place."""
        found = select(Blobs.digest).where(*_matching(stale, after))
        return self.connection.scalar(select(func.count()).select_from(found.subquery())) or 0

    def lock(self, digest: Digest) -> int | None:
        """Return the size of the blob, locked against changes; None if there is no such blob any more."""
        return self.connection.scalar(select(Blobs.size).where(Blobs.digest == digest).with_for_update())

    def linked(self, repository_id: int, digests: Collection[Digest]) -> Sequence[Digest]:
        """Return those of some blobs that a repository may read."""
        given = {"repository": repository_id, "digests": [*digests]}
        return self.connection.scalars(_linked(), given).all()

    def tags(self, repository_id: int, tags: Collection[Tag]) -> Sequence[Tag]:
        """Return those of some tags that a repository has."""
        given = {"repository": repository_id, "tags": [*tags]}
        return [Tag(name) for name in self.connection.scalars(_tags(), given)]

    def views(self, repository_id: int, manifests: Collection[Digest]) -> Sequence[tuple[Digest, str]]:
        """Return those of some manifests that have a view, each with the kind of every view."""
        given = {"repository": repository_id, "manifests": [*manifests]}
        return [(row[0], row[1]) for row in self.connection.execute(_views(), given)]

    def children(
        self, repository_id: int, manifests: Collection[Digest]
    ) -> dict[Digest, dict[Digest, str | None]]:
        """Return the children of each manifest with their roles; None as role: recorded as missing."""
        found: dict[Digest, dict[Digest, str | None]] = {digest: {} for digest in manifests}
        if not found:
            return found
        given = {"repository": repository_id, "manifests": [*found]}
        for manifest, child in self.connection.execute(_missing(), given):
            found[manifest][child] = None
        for manifest, child, role in self.connection.execute(_children(), given):
            found[manifest][child] = role
        return found

    def signed(self, repository_id: int, manifests: Collection[Digest]) -> dict[Digest, Digest]:
        """Return the blobs that are schema 1 manifests with their signatures, by manifest."""
        given = {"repository": repository_id, "manifests": [*manifests]}
        return {row[0]: row[1] for row in self.connection.execute(_signed(), given)} if manifests else {}

    def signed_as(self, repository_id: int, blob: Digest) -> Sequence[Digest]:
        """Return the schema 1 manifests whose signed form is *blob*."""
        query = select(ManifestChildren.manifest).where(
            ManifestChildren.repository_id == repository_id,
            ManifestChildren.child == blob,
            ManifestChildren.role == Role.SIGNED,
        )
        return self.connection.scalars(query.limit(PLACES)).all()

    def lost_views(self, repository_id: int) -> Sequence[tuple[Digest, str, str]]:
        """Return manifests, kinds of views, and views that the repository does not have; not all if many."""
        rows = self.connection.execute(_lost_views(), {"repository": repository_id})
        return [(row[0], row[1], str(row[2])) for row in rows]

    def orphans(self, repository_id: int) -> Sequence[tuple[ImageId, ImageId]]:
        """Return V1 images whose parents the repository does not have, with these; not all if many."""
        rows = self.connection.execute(_orphans(), {"repository": repository_id})
        return [(ImageId(row[0]), ImageId(str(row[1]))) for row in rows]

    def users(self, digest: Digest) -> Users:
        """Return what uses a blob: at most PLACES of each sort."""
        names = select(Repositories.name).join(
            RepositoryBlobs, RepositoryBlobs.repository_id == Repositories.id
        )
        names = names.where(RepositoryBlobs.digest == digest).order_by(Repositories.name).limit(PLACES)
        images = select(V1Images.image_id).where(_made_of(digest))
        signed = exists().where(_naming(digest), ManifestChildren.role == Role.SIGNED)
        found = _manifests_above(digest).cte("found")
        of = (found.c.repository_id == Manifests.repository_id) & (found.c.manifest == Manifests.digest)
        types = select(Manifests.media_type).join(found, of).distinct()
        tags = (
            select(Repositories.name, Tags.name)
            .join(Repositories, Repositories.id == Tags.repository_id)
            .join(found, (found.c.repository_id == Tags.repository_id) & (found.c.manifest == Tags.manifest))
            .order_by(Repositories.name, Tags.name)
            .limit(PLACES)
        )
        return Users(
            self.connection.scalars(names).all(),
            [f"{name}:{tag}" for name, tag in self.connection.execute(tags)],
            frozenset(self.connection.scalars(types)),
            bool(self.connection.scalar(select(signed))),
            self.connection.scalars(images.distinct().limit(PLACES)).all(),
        )


@cache
def _linked() -> Select[Digest]:
    """Return the statement of ``linked``, cached as those below: building it takes long."""
    own = RepositoryBlobs.repository_id == bindparam("repository")
    among = RepositoryBlobs.digest.in_(bindparam("digests", expanding=True))
    return select(RepositoryBlobs.digest).where(own, among)


@cache
def _tags() -> Select[str]:
    own = Tags.repository_id == bindparam("repository")
    return select(Tags.name).where(own, Tags.name.in_(bindparam("tags", expanding=True)))


@cache
def _views() -> Select[Digest, str]:
    views = select(ManifestViews.manifest, ManifestViews.kind).where(_of_manifests(ManifestViews))
    return views.where(ManifestViews.view.is_not(None))


@cache
def _missing() -> Select[Digest, Digest]:
    return select(MissingChildren.manifest, MissingChildren.child).where(_of_manifests(MissingChildren))


@cache
def _children() -> Select[Digest, Digest, str]:
    children = ManifestChildren
    return select(children.manifest, children.child, children.role).where(_of_manifests(children))


@cache
def _signed() -> Select[Digest, Digest]:
    signed = select(ManifestChildren.manifest, ManifestChildren.child).where(_of_manifests(ManifestChildren))
    return signed.where(ManifestChildren.role == Role.SIGNED)


def _of_manifests(rows: type[ManifestChildren | MissingChildren | ManifestViews]) -> ColumnElement[bool]:
    """Return the condition that rows are of some manifests of a repository, both to be given."""
    among = rows.manifest.in_(bindparam("manifests", expanding=True))
    return and_(rows.repository_id == bindparam("repository"), among)


@cache
def _lost_views() -> Select[Digest, str, str | None]:
    own: BindParameter[int] = bindparam("repository")
    views = ManifestViews
    image = exists().where(V1Images.repository_id == own, V1Images.image_id == views.view)
    manifest = exists().where(Manifests.repository_id == own, Manifests.digest == views.view)
    lost = or_(and_(views.kind == V1, ~image), and_(views.kind != V1, ~manifest))
    query = select(views.manifest, views.kind, views.view)
    query = query.where(views.repository_id == own, views.view.is_not(None), lost)
    return query.order_by(views.manifest).limit(BATCH)


@cache
def _orphans() -> Select[str, str | None]:
    own: BindParameter[int] = bindparam("repository")
    parent = aliased(V1Images)
    known = exists().where(parent.repository_id == own, parent.image_id == V1Images.parent_id)
    query = select(V1Images.image_id, V1Images.parent_id)
    query = query.where(V1Images.repository_id == own, V1Images.parent_id.is_not(None), ~known)
    return query.order_by(V1Images.image_id).limit(BATCH)


def _matching(stale: Stale, after: tuple[datetime, Digest] | None) -> Iterator[ColumnElement[bool]]:
    """Yield what is true of stale blobs after a place."""
    yield Blobs.verified_at < stale.before
    yield from _linked_in(stale.repositories)
    if stale.damaged is not None:
        yield Blobs.damaged_at < stale.before if stale.damaged else _is_sound()
    if after:
        place = tuple_(Blobs.verified_at, Blobs.digest)
        yield place > tuple_(*after, types=[Blobs.verified_at.type, Blobs.digest.type])


def _is_sound() -> ColumnElement[bool]:
    """Return the condition that a blob is not damaged, as hardly any is.

    SQLite would find all others by the index of damaged ones, and sort them.
    """
    return as_number(Blobs.damaged_at.is_(None)) == 1


def _linked_in(repositories: Collection[str]) -> Sequence[ColumnElement[bool]]:
    if not repositories:
        return ()
    ids = select(Repositories.id).where(Repositories.name.in_(repositories))
    return (exists().where(RepositoryBlobs.digest == Blobs.digest, RepositoryBlobs.repository_id.in_(ids)),)


def _manifests_above(digest: Digest) -> Select[int, Digest]:
    """Return the manifests that are, name or lead to a blob, or are seen as V1 images that need it."""
    images = select(V1Images.repository_id, V1Images.image_id).where(_made_of(digest))
    below = images.cte("below", recursive=True)
    child = (V1Images.repository_id == below.c.repository_id) & (V1Images.parent_id == below.c.image_id)
    below = below.union(select(V1Images.repository_id, V1Images.image_id).join(below, child))
    seen = (ManifestViews.repository_id == below.c.repository_id) & (ManifestViews.view == below.c.image_id)
    begin = (
        select(Manifests.repository_id, Manifests.digest.label("manifest"))
        .where(Manifests.repository_id.in_(_holders(digest)), Manifests.digest == digest)
        .union(
            select(ManifestChildren.repository_id, ManifestChildren.manifest).where(_naming(digest)),
            select(ManifestViews.repository_id, ManifestViews.manifest).join(below, seen),
            select(ManifestViews.repository_id, ManifestViews.manifest).where(
                ManifestViews.repository_id.in_(_holders(digest)), ManifestViews.view == str(digest)
            ),
        )
        .cte("begin")
    )
    above = select(begin.c.repository_id, begin.c.manifest).cte("above", recursive=True)
    parent = (ManifestChildren.repository_id == above.c.repository_id) & (
        ManifestChildren.child == above.c.manifest
    )
    above = above.union(select(ManifestChildren.repository_id, ManifestChildren.manifest).join(above, parent))
    return select(above.c.repository_id, above.c.manifest)


def _holders(digest: Digest) -> Select[int]:
    """Return the repositories that link the blob; within each, indexes find what uses it."""
    return select(RepositoryBlobs.repository_id).where(RepositoryBlobs.digest == digest)


def _naming(digest: Digest) -> ColumnElement[bool]:
    return ManifestChildren.repository_id.in_(_holders(digest)) & (ManifestChildren.child == digest)


def _made_of(digest: Digest) -> ColumnElement[bool]:
    part = or_(V1Images.json == digest, V1Images.layer == digest)
    return V1Images.repository_id.in_(_holders(digest)) & part
