"""SQL of usage: how many bytes repositories and namespaces have, and how many of them they share.

Every query looks at the links of what it is asked about, and at those of the same blobs, by indexes. So a
page costs what is on it, however many repositories there are.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, exists, func, literal, or_, select
from sqlalchemy.orm import QueryableAttribute, aliased

from dualreg.catalog.deleted import is_kept
from dualreg.catalog.dialects import within
from dualreg.catalog.name_parts import narrowed, parts_within
from dualreg.catalog.rows import UsageRow
from dualreg.catalog.sizes import RepositoryTags, TagSize, size_together, sizes_of, tags_of
from dualreg.catalog.tables import Blobs, Repositories, RepositoryBlobs, Tags
from dualreg.catalog.tag_orders import end_of
from dualreg.image.digest import Digest
from dualreg.image.names import Tag
from dualreg.patterns import Reach

#: The character after the slash: what is below a name ends there.
_AFTER_SLASH = "0"
#: A character after all those of names.
_LAST = "~"
#: Names that are looked at before the index of parts of names is.
_NEAR = 10_000


@dataclass(frozen=True, slots=True)
class UsageQueries:
    """How much is stored, by name."""

    connection: Connection

    def names(self, after: str, reach: Reach, limit: int) -> Sequence[str]:
        """Return up to *limit* names of repositories in *reach* after *after*, in byte order.

        If all names of *reach* have parts, some of those after *after* are looked at one by one; the rest is
        found by the index of parts of names, unless that has too many of them.
        """
        query = select(Repositories.name).where(within(Repositories.name, reach)).order_by(Repositories.name)
        parts = parts_within(reach) if self.connection.dialect.name == "sqlite" else []
        near = self._name_after(after, _NEAR) if parts else None
        if near is None:
            return self.connection.scalars(query.where(Repositories.name > after).limit(limit)).all()
        first = query.where(Repositories.name > after, Repositories.name <= near).limit(limit)
        found = self.connection.scalars(first).all()
        if len(found) == limit:
            return found
        narrow = narrowed(self.connection, parts)
        query = query.where(Repositories.name > near, *(() if narrow is None else (narrow,)))
        return [*found, *self.connection.scalars(query.limit(limit - len(found)))]

    def _name_after(self, after: str, number: int) -> str | None:
        """Return the name that is the *number*-th after *after*; None: there are not so many."""
        query = select(Repositories.name).where(Repositories.name > after).order_by(Repositories.name)
        return self.connection.scalar(query.offset(number - 1).limit(1))

    def first_tags(self, names: Collection[str], prefix: str) -> Sequence[tuple[str, str]]:
        """Return those of *names* with a tag that begins with *prefix*, in byte order, and the first one."""
        if not prefix.isascii() or "\0" in prefix:
            return []  # no tag is like that
        tag = select(Tags.name).where(Tags.repository_id == Repositories.id).order_by(Tags.name).limit(1)
        if prefix:
            tag = tag.where(Tags.name >= prefix, Tags.name < end_of(prefix))
        first = tag.correlate(Repositories).scalar_subquery()
        query = select(Repositories.name, first).where(Repositories.name.in_(names))
        rows = self.connection.execute(query.order_by(Repositories.name))
        return [(name, found) for name, found in rows if found is not None]

    def level(self, under: str, after: str, reach: Reach, limit: int) -> Sequence[str]:
        """Return up to *limit* names directly under a namespace after *after*, in byte order.

        Those that end with a slash are namespaces, of which each has a repository in *reach*. It takes one
        look at the index for each of them, however many repositories they have.

        Args:
            under: The namespace with its slash; empty: names that begin.
        """
        place = self._after(literal(max(after, under)), under)
        start = select(self._first(place, under, reach).label("name"), literal(1).label("number"))
        step = start.cte("step", recursive=True)
        following = select(self._first(self._after(step.c.name, under), under, reach), step.c.number + 1)
        step = step.union_all(following.where(step.c.name.is_not(None), step.c.number < limit))
        names = self.connection.scalars(select(step.c.name).where(step.c.name.is_not(None))).all()
        return [under + _head(name[len(under) :]) for name in names]

    def _after(self, name: ColumnElement[str], under: str) -> ColumnElement[str]:
        """Return what comes after a name, and what else begins like it up to the next slash."""
        find = func.strpos if self.connection.dialect.name == "postgresql" else func.instr
        slash = find(func.substr(name, len(under) + 1), "/")
        return case((slash == 0, name), else_=func.substr(name, 1, len(under) + slash) + _LAST)

    def _first(self, after: ColumnElement[str], under: str, reach: Reach) -> ColumnElement[str]:
        """Return the first name after *after* that is under a namespace."""
        query = select(Repositories.name).where(Repositories.name > after, within(Repositories.name, reach))
        if under:
            query = query.where(Repositories.name < under[:-1] + _AFTER_SLASH)
        return query.order_by(Repositories.name).limit(1).scalar_subquery()

    def repositories(self, names: Sequence[str]) -> Sequence[UsageRow]:
        """Return the usage of repositories, in byte order."""
        link, other = RepositoryBlobs, aliased(RepositoryBlobs)
        shared = exists().where(other.digest == link.digest, other.repository_id != link.repository_id)
        query = select(Repositories.name, *_sums(shared)).select_from(Repositories)
        query = query.outerjoin(link, link.repository_id == Repositories.id)
        query = query.outerjoin(Blobs, Blobs.digest == link.digest).where(Repositories.name.in_(names))
        rows = self.connection.execute(query.group_by(Repositories.name).order_by(Repositories.name))
        return [_row(*row) for row in rows]

    def tags(self, names: Sequence[str]) -> dict[str, RepositoryTags]:
        """Return what is known of repositories and their tags, by name."""
        return tags_of(self.connection, names)

    def sizes(self, repository_id: int, manifests: Collection[Digest]) -> dict[Digest, TagSize]:
        """Return how many bytes a tag needs that points at one of *manifests*, by digest."""
        return sizes_of(self.connection, repository_id, manifests)

    def together(self, repository_id: int, tags: Collection[Tag]) -> TagSize | None:
        """Return how many bytes tags need together, each once, and how many of these nothing else needs."""
        return size_together(self.connection, repository_id, tags)

    def namespaces(self, after: str, depth: int, reach: Reach) -> Iterator[tuple[str, str]]:
        """Yield namespaces of *depth* components after *after*, in byte order, and where the next one begins.

        A repository whose name has fewer components is a namespace of its own.
        """
        while found := self.names(after, reach, 1):
            (name,) = found
            namespace = "/".join(name.split("/")[:depth])
            after = name if name == namespace else f"{namespace}/{_LAST}"
            # Names such as a-b are between a and a/b: the namespace a was there before them.
            if name == namespace or not self._is_repository(namespace, reach):
                yield namespace, after

    def _is_repository(self, name: str, reach: Reach) -> bool:
        query = select(Repositories.id).where(Repositories.name == name, within(Repositories.name, reach))
        return self.connection.scalar(query) is not None

    def namespace(self, name: str, depth: int, reach: Reach) -> UsageRow:
        """Return the usage of the repositories of *reach* in a namespace: each blob counts once."""
        link, holder = RepositoryBlobs, aliased(Repositories)
        inside = select(link.digest).join(Repositories, Repositories.id == link.repository_id)
        inside = inside.where(_in_namespace(Repositories.name, name, depth, reach))
        other = select(link.digest).join(holder, holder.id == link.repository_id)
        other = other.where(link.digest == Blobs.digest, ~_in_namespace(holder.name, name, depth, reach))
        query = select(*_sums(other.exists())).where(Blobs.digest.in_(inside))
        return _row(name, *self.connection.execute(query).one())

    def links(self, name: str, depth: int, reach: Reach, limit: int) -> int:
        """Return how many links ``namespace`` would look at, but no more than *limit*."""
        found = select(RepositoryBlobs.repository_id).join(
            Repositories, Repositories.id == RepositoryBlobs.repository_id
        )
        found = found.where(_in_namespace(Repositories.name, name, depth, reach)).limit(limit)
        return self.connection.scalar(select(func.count()).select_from(found.subquery())) or 0

    def extent(self, name: str, depth: int, reach: Reach, limit: int) -> int:
        """Return how many links and repositories without links a namespace has, but no more than *limit*."""
        link = RepositoryBlobs
        found = select(Repositories.id).outerjoin(link, link.repository_id == Repositories.id)
        found = found.where(_in_namespace(Repositories.name, name, depth, reach)).limit(limit)
        return self.connection.scalar(select(func.count()).select_from(found.subquery())) or 0

    def total(self) -> UsageRow:
        """Return what all repositories have; of every blob, all bytes are its own."""
        linked = exists().where(RepositoryBlobs.digest == Blobs.digest)
        query = select(func.count(), func.coalesce(func.sum(Blobs.size), 0)).where(linked)
        blobs, size = self.connection.execute(query).one()
        return _row("", blobs, size, size)

    def unlinked(self) -> tuple[int, int]:
        """Return the bytes of blobs that no repository has: which can be restored, and which are garbage."""
        kept = case((is_kept(), Blobs.size), else_=0)
        sums = (func.coalesce(func.sum(each), 0) for each in (kept, Blobs.size))
        found, size = self.connection.execute(select(*sums).where(Blobs.condemned_at.is_not(None))).one()
        return int(found), int(size) - int(found)


def _head(name: str) -> str:
    """Return a name up to its first slash, that included."""
    head, slash, _ = name.partition("/")
    return head + slash


def _row(name: str, *sums: Any) -> UsageRow:  # noqa: ANN401 -- PostgreSQL's sums are decimals
    blobs, size, own = map(int, sums)
    return UsageRow(name, blobs, size, own)


def _sums(shared: ColumnElement[bool]) -> tuple[ColumnElement[int], ...]:
    """Return the number of blobs, their bytes, and those of which *shared* does not hold."""
    own = case((shared, 0), else_=Blobs.size)
    sums = (func.coalesce(func.sum(each), 0) for each in (Blobs.size, own))
    return (func.count(Blobs.digest), *sums)


def _in_namespace(
    column: QueryableAttribute[str], name: str, depth: int, reach: Reach
) -> ColumnElement[bool]:
    """Return the condition that a repository of *reach* is in a namespace of *depth* components."""
    is_whole = name.count("/") == depth - 1
    return (_below(column, name) if is_whole else column == name) & within(column, reach)


def _below(column: QueryableAttribute[str], name: str) -> ColumnElement[bool]:
    """Return the condition that a name is *name*, or below it."""
    return or_(column == name, (column > f"{name}/") & (column < name + _AFTER_SLASH))
