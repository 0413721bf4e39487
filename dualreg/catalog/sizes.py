"""SQL of what repositories hold, and of how many bytes their tags need.

Every query looks at the tags of what it is asked about, and at what these need, by indexes.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Connection, Select, bindparam, case, exists, func, or_, select
from sqlalchemy.orm import aliased

from dualreg.catalog.columns import DigestColumn
from dualreg.catalog.rows import Origin
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    ManifestViews,
    Repositories,
    RepositoryBlobs,
    Tags,
)
from dualreg.catalog.views import V1
from dualreg.image.digest import Digest


class TagSize(NamedTuple):
    """The bytes of what a tag needs, and of those that nothing else does."""

    bytes: int
    own: int


class RepositoryTags(NamedTuple):
    """What is known of a repository and its tags.

    Attributes:
        upstream: The URL of the registry that its content comes from; None: clients.
        v1: How many of the *tags* were last pushed over V1.
        pushed_at, pulled_at: When a tag was last pushed or pulled; None: never.
    """

    created_at: datetime
    upstream: str | None
    tags: int
    v1: int
    pushed_at: datetime | None
    pulled_at: datetime | None


def tags_of(connection: Connection, names: Sequence[str]) -> dict[str, RepositoryTags]:
    """Return what is known of repositories and their tags, by name."""
    is_v1 = case((Tags.origin == Origin.V1, 1), else_=0)
    query = (
        select(
            Repositories.name,
            Repositories.created_at,
            Repositories.upstream,
            func.count(Tags.name),
            func.coalesce(func.sum(is_v1), 0),
            func.max(Tags.updated_at, type_=Tags.updated_at.type),
            func.max(Tags.pulled_at, type_=Tags.pulled_at.type),
        )
        .outerjoin(Tags, Tags.repository_id == Repositories.id)
        .where(Repositories.name.in_(names))
        .group_by(Repositories.id)
    )
    return {row[0]: RepositoryTags(*row[1:]) for row in connection.execute(query)}


def sizes_of(
    connection: Connection, repository_id: int, manifests: Collection[Digest]
) -> dict[Digest, TagSize]:
    """Return how many bytes a tag needs that points at one of *manifests*, by digest."""
    found = {}
    for manifest in {*manifests}:
        row = connection.execute(_size(), {"repository": repository_id, "manifest": manifest}).one()
        found[manifest] = TagSize(*map(int, row))  # PostgreSQL's sums are decimals
    return found


@cache
def _size() -> Select[*tuple[Any, ...]]:
    """Return the query of the bytes that a manifest needs, and of those that nothing else does.

    ``held`` is what others in the repository need, too. What was made of the manifest is no other.
    """
    here: BindParameter[int] = bindparam("repository")
    child = ManifestChildren
    root = Manifests.digest == bindparam("manifest")
    first = select(Manifests.digest).where(Manifests.repository_id == here, root)
    needed = first.cte("needed", recursive=True)
    needed = needed.union(
        select(child.child).where(child.repository_id == here, child.manifest == needed.c.digest)
    )
    views = ManifestViews
    made = select(views.view).where(views.repository_id == here, views.kind != V1, views.view.is_not(None))
    made = made.where(views.manifest.in_(select(needed.c.digest)))
    above, others = aliased(child), aliased(Tags)
    tagged = select(func.count()).select_from(
        select(others.name)
        .where(others.repository_id == here, others.manifest == needed.c.digest)
        .limit(2)
        .correlate(needed)
        .subquery()
    )
    own_tag = case((needed.c.digest == bindparam("manifest", type_=DigestColumn), 1), else_=0)
    named = exists().where(
        above.repository_id == here,
        above.child == needed.c.digest,
        above.manifest.not_in(select(needed.c.digest).correlate(None)),
        above.manifest.not_in(made.correlate(None)),
    )
    directly = select(needed.c.digest).where(or_(tagged.scalar_subquery() > own_tag, named))
    held = directly.cte("held", recursive=True)
    held = held.union(select(child.child).where(child.repository_id == here, child.manifest == held.c.digest))
    link = RepositoryBlobs
    elsewhere = exists().where(link.digest == Blobs.digest, link.repository_id != here)
    shared = or_(Blobs.digest.in_(select(held.c.digest)), elsewhere)
    sums = (Blobs.size, case((shared, 0), else_=Blobs.size))
    query = select(*(func.coalesce(func.sum(each), 0) for each in sums))
    return query.where(Blobs.digest.in_(select(needed.c.digest)))
