"""SQL of what repositories hold, and of how many bytes their tags need.

Every query looks at the tags of what it is asked about, and at what these need, by indexes. Clients choose
how much one manifest needs, such as an index of thousands of images: what needs too much for a page is not
added up.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    Select,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.orm import aliased

from dualreg.catalog.blobs import blob_sizes
from dualreg.catalog.dialects import as_number, batches
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
from dualreg.image.names import Tag

#: How many manifests and blobs may be looked at: for one tag; for all tags of a page, which takes about a
#: second; and for tags that are measured together.
ENOUGH, _ENOUGH_OF_PAGE, _ENOUGH_TOGETHER = 2_000, 200_000, 100_000


class TagSize(NamedTuple):
    """The bytes of what a tag, or several, need, and of those that nothing else does."""

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
    is_v1 = as_number(Tags.origin == Origin.V1)
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
    """Return how many bytes a tag needs that points at one of *manifests*, by digest, in one query.

    Those that need more than ENOUGH are left out, or less than that if there are many; so are those that were
    deleted.
    """
    wanted = [*{*manifests}]
    enough = min(ENOUGH, _ENOUGH_OF_PAGE // max(len(wanted), 1))
    given = {"repository": repository_id, "manifests": wanted, "enough": enough}
    rows = connection.execute(_sizes(), given)
    return {row[0]: TagSize(*map(int, row[1:])) for row in rows}  # PostgreSQL's sums are decimals


def size_together(connection: Connection, repository_id: int, tags: Collection[Tag]) -> TagSize | None:
    """Return how many bytes tags need together, each once, and how many of these nothing else needs.

    None: they need too much, or were deleted.
    """
    given = {"repository": repository_id, "tags": [*tags], "enough": _ENOUGH_TOGETHER}
    row = connection.execute(_together(), given).one_or_none()
    return TagSize(*map(int, row[1:])) if row else None


def bytes_of(
    connection: Connection, repository_id: int, manifests: Collection[Digest], limit: int
) -> dict[Digest, int] | None:
    """Return how many bytes each of *manifests* needs; None: that takes more than *limit* steps.

    What several need is read once, and clients choose how much that is: a step is a child of a manifest that
    is read, and one that is counted.
    """
    below = _below(connection, repository_id, manifests, limit)
    if below is None:
        return None
    sizes, found, left = blob_sizes(connection, below), dict[Digest, int](), limit
    for manifest in manifests:
        needed, pending = {manifest}, [manifest]
        while pending:
            children = below[pending.pop()]
            left -= len(children)
            if left < 0:
                return None
            pending += (new := {*children} - needed)
            needed |= new
        found[manifest] = sum(sizes.get(each, 0) for each in needed)
    return found


def _below(
    connection: Connection, repository_id: int, manifests: Collection[Digest], limit: int
) -> dict[Digest, list[Digest]] | None:
    """Return the children of *manifests*, and of all that is below them; None: there are over *limit*."""
    below, pending = dict[Digest, list[Digest]](), {*manifests}
    parent, child = ManifestChildren.manifest, ManifestChildren.child
    query = select(parent, child).where(ManifestChildren.repository_id == repository_id)
    while pending:
        below |= {each: [] for each in pending}
        named = set[Digest]()
        for batch in batches(pending):
            rows = connection.execute(query.where(parent.in_(batch)).limit(limit + 1)).all()
            limit -= len(rows)
            if limit < 0:
                return None
            for manifest, each in rows:
                below[manifest].append(each)
                named.add(each)
        pending = named - below.keys()
    return below


@cache
def _sizes() -> Select[*tuple[Any, ...]]:
    """Return the query of the bytes that manifests need, and of those that nothing else does."""
    here: BindParameter[int] = bindparam("repository")
    first, others = Manifests.digest, aliased(Tags)
    start = select(first.label("root"), first).where(
        Manifests.repository_id == here,
        first.in_(bindparam("manifests", expanding=True)),
        _is_enough(select(first.label("digest")).correlate(Manifests), here),
    )
    needed = _needed(start, here)
    tags = select(others.name).where(others.repository_id == here, others.manifest == needed.c.digest)
    tagged = select(func.count()).select_from(tags.limit(2).correlate(needed).subquery())
    own_tag = as_number(needed.c.digest == needed.c.root)
    return _sums(needed, tagged.scalar_subquery() > own_tag, here)


@cache
def _together() -> Select[*tuple[Any, ...]]:
    """Return the query of the bytes that tags need together, and of those that nothing else does."""
    here: BindParameter[int] = bindparam("repository")
    going: BindParameter[Any] = bindparam("tags", expanding=True)
    root, others, chosen = literal_column("0", Integer), aliased(Tags), aliased(Tags)
    first = select(chosen.manifest.label("digest")).where(
        chosen.repository_id == here, chosen.name.in_(going)
    )
    start = select(root.label("root"), Tags.manifest.label("digest"))
    start = start.where(Tags.repository_id == here, Tags.name.in_(going), _is_enough(first, here))
    needed = _needed(start, here)
    staying = exists().where(
        others.repository_id == here, others.manifest == needed.c.digest, others.name.not_in(going)
    )
    return _sums(needed, staying, here)


def _sums(needed: CTE, is_tagged: ColumnElement[bool], here: BindParameter[int]) -> Select[*tuple[Any, ...]]:
    """Return the query of the bytes that each root needs, and of those that nothing else does.

    Args:
        is_tagged: Whether another tag points at what is needed.
    """
    held, link = _held(needed, is_tagged, here), RepositoryBlobs
    elsewhere = exists().where(link.digest == Blobs.digest, link.repository_id != here)
    is_held = tuple_(needed.c.root, needed.c.digest).in_(select(held.c.root, held.c.digest))
    sums = (Blobs.size, case((or_(is_held, elsewhere), 0), else_=Blobs.size))
    query = select(needed.c.root, *(func.coalesce(func.sum(each), 0) for each in sums))
    return query.join(Blobs, Blobs.digest == needed.c.digest).group_by(needed.c.root)


def _is_enough(first: Select[Digest], here: BindParameter[int]) -> ColumnElement[bool]:
    """Return whether what *first* says, and all below that, is no more than ``enough``; no more is read."""
    child, reached = ManifestChildren, first.cte("reached", recursive=True, nesting=True)
    below = select(child.child).where(child.repository_id == here, child.manifest == reached.c.digest)
    enough: BindParameter[int] = bindparam("enough")
    some = select(reached.union(below).c.digest).limit(enough + 1).subquery()
    return select(func.count()).select_from(some).scalar_subquery() <= enough


def _is_not_among(values: ColumnElement[Any], rows: Select[*tuple[Any, ...]]) -> ColumnElement[bool]:
    """Return the condition that *rows*, which have no NULL, do not have *values*.

    For NOT IN, SQLite would look through all rows for a NULL whenever it does not find the values.
    """
    return as_number(values.in_(rows.correlate(None))) == 0


def _needed(start: Select[Any, Digest], here: BindParameter[int]) -> CTE:
    """Return what each ``root`` needs: what *start* says, and all below that."""
    child, needed = ManifestChildren, start.cte("needed", recursive=True)
    below = select(needed.c.root, child.child)
    return needed.union(below.where(child.repository_id == here, child.manifest == needed.c.digest))


def _held(needed: CTE, is_tagged: ColumnElement[bool], here: BindParameter[int]) -> CTE:
    """Return what others in the repository need of that, too; what was made of a manifest is no other."""
    child, above = ManifestChildren, aliased(ManifestChildren)
    views, source = ManifestViews, needed.alias("source")
    made = select(source.c.root, views.view).join(source, views.manifest == source.c.digest)
    made = made.where(views.repository_id == here, views.kind != V1, views.view.is_not(None))
    parent = tuple_(needed.c.root, above.manifest)
    named = exists().where(
        above.repository_id == here,
        above.child == needed.c.digest,
        _is_not_among(parent, select(needed.c.root, needed.c.digest)),
        _is_not_among(parent, made),
    )
    directly = select(needed.c.root, needed.c.digest)
    held = directly.where(or_(is_tagged, named)).cte("held", recursive=True)
    below = select(held.c.root, child.child)
    return held.union(below.where(child.repository_id == here, child.manifest == held.c.digest))
