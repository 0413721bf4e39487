"""SQL of repositories."""

from collections.abc import Collection, Generator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    union,
    update,
)

from dualreg.catalog import prepared
from dualreg.catalog.blobs import BlobQueries
from dualreg.catalog.dialects import batches, insert_for, within
from dualreg.catalog.name_parts import narrowed, note_created, parts_in
from dualreg.catalog.policies import policy_version
from dualreg.catalog.rows import RepositoryRow
from dualreg.catalog.tables import (
    Deletions,
    Manifests,
    Repositories,
    RepositoryBlobs,
    Tags,
    Uploads,
    V1Images,
)
from dualreg.image.names import RepositoryName, UploadId
from dualreg.patterns import EVERYWHERE, Reach, is_for_repositories

#: Number of rows to fetch at a time, at most: readers stop early.
_BATCH = 128
#: As well, at least: what they skip are repositories without an image.
_LEAST = 16


@dataclass(frozen=True, slots=True)
class RepositoryQueries:
    """The repositories, by name."""

    connection: Connection
    now: datetime

    def ensure(self, name: RepositoryName, *, exclusive: bool = False) -> RepositoryRow:
        """Return the repository, created if there is none, and locked as by ``lock``."""
        row, is_new = {"name": name, "created_at": self.now}, False
        while (known := self.lock(name, exclusive=exclusive)) is None:
            # One that is there may be deleted by then. With RETURNING, SQLite would look at all uploads.
            prepared.change(self.connection, _create(self.connection.dialect.name), row)
            is_new = True
        if is_new:
            note_created(self.connection, known.id)
        return known

    def lock(
        self, name: RepositoryName, *, exclusive: bool = False, absent: bool = False
    ) -> RepositoryRow | None:
        """Return the repository, locked against deletion until the transaction ends; None if there is none.

        With *exclusive*, it is locked against all writes, so that what was read stays true until the write.
        With *absent*, one that does not exist is not created before the transaction ends.
        """
        query, values = _lock(exclusive=exclusive), {"repository": name}
        found = prepared.row(self.connection, query, values)
        if found is None and absent and not self._bar(name):
            found = prepared.row(self.connection, query, values)
        return None if found is None else RepositoryRow(found[0], name, found[1])

    def _bar(self, name: RepositoryName) -> bool:
        """Let others who create the repository wait; return False if another transaction has created it."""
        row = {"name": name, "created_at": self.now}
        statement = _create(self.connection.dialect.name).returning(Repositories.id)
        created = self.connection.scalar(statement, row)
        if created is not None:  # PostgreSQL lets inserts of the name wait, although the row is gone again
            self.connection.execute(delete(Repositories).where(Repositories.id == created))
        return created is not None

    def find(self, *names: RepositoryName) -> RepositoryRow | None:
        """Return the first of *names* that exists, or None."""
        found = {name: id_ for id_, name in self.connection.execute(_find(), {"names": names})}
        return next((RepositoryRow(found[name], name) for name in names if name in found), None)

    def upstream(self, name: RepositoryName) -> str | None:
        """Return the URL of the registry that its content comes from; None if that is not recorded."""
        return self.connection.scalar(_upstream(), {"repository": name})

    def record_upstream(self, repository_id: int, upstream: str | None) -> None:
        """Record the registry that the content of a repository comes from."""
        row = update(Repositories).where(Repositories.id == repository_id)
        self.connection.execute(row.values(upstream=upstream))

    def any(self) -> bool:
        """Return whether there is a repository."""
        return bool(self.connection.scalar(select(exists(select(Repositories.id)))))

    def count(self) -> int:
        """Return the number of repositories."""
        return self.connection.scalar(select(func.count()).select_from(Repositories)) or 0

    def is_empty(self, repository_id: int) -> bool:
        """Return whether the repository has no content and no uploads."""
        return not self.connection.scalar(_has_content(), {"repository": repository_id})

    def used(self, names: Collection[RepositoryName]) -> frozenset[str]:
        """Return those of *names* that are repositories, or were, or in which something was deleted."""
        queries = (
            select(table).where(table.in_(bindparam("names", expanding=True)))
            for table in (Repositories.name, Deletions.repository)
        )
        statement = union(*queries)
        return frozenset(
            name for batch in batches(names) for name in self.connection.scalars(statement, {"names": batch})
        )

    def remove(self, repository_id: int) -> list[tuple[UploadId, str]]:
        """Delete the repository with all its content.

        Returns:
            Its staged bytes with their layouts; the caller discards them.
        """
        going = delete(Uploads).where(Uploads.repository_id == repository_id)
        uploads = self.connection.execute(going.returning(Uploads.staged, Uploads.layout)).all()
        for table in (V1Images, Manifests):
            self.connection.execute(delete(table).where(table.repository_id == repository_id))
        BlobQueries(self.connection, self.now).unlink_all(repository_id)
        self.connection.execute(delete(Repositories).where(Repositories.id == repository_id))
        return [(UploadId(staged), layout) for staged, layout in uploads]

    def walk(
        self, *, last: str, limit: int, reach: Reach = EVERYWHERE, enough: int = _BATCH
    ) -> Generator[tuple[RepositoryName, bool], None, None]:
        """Yield up to *limit* names in *reach* after *last*, in byte order, and whether each has an image.

        Args:
            enough: After how many the caller is likely to stop.
        """
        query = select(Repositories.name, _shows_an_image()).where(Repositories.name > last)
        query = query.where(within(Repositories.name, reach))
        query = query.order_by(Repositories.name).limit(limit)
        batch = min(max(enough, _LEAST), _BATCH)
        with self.connection.execute(query, execution_options={"yield_per": batch}) as rows:
            for name, shown in rows:
                yield RepositoryName(name), bool(shown)

    def search(
        self, term: str, *, offset: int, limit: int, reach: Reach = EVERYWHERE
    ) -> tuple[int, tuple[RepositoryName, ...]]:
        """Return the number of repositories in *reach* with an image that match *term*, and a page of them.

        Their names contain *term*. The page has up to *limit* names, in byte order, starting at *offset*.
        """
        if term and not is_for_repositories(term.lower()):  # among which NUL is, which PostgreSQL refuses
            return 0, ()
        matches = Repositories.name.contains(term, autoescape=True) & _holds_an_image()
        matches &= within(Repositories.name, reach)
        narrow = narrowed(self.connection, parts_in([term]))
        matches = matches if narrow is None else narrow & matches
        total = self.connection.scalar(select(func.count()).select_from(Repositories).where(matches)) or 0
        query = (
            select(Repositories.name).where(matches).order_by(Repositories.name).offset(offset).limit(limit)
        )
        return total, tuple(RepositoryName(name) for name in self.connection.scalars(query))


@cache
def _lock(*, exclusive: bool) -> Select[int, str | None]:
    """Return the statement of ``lock``, cached: building it takes longer than executing it.

    The version of the policies comes along, so that whoever remembers them need not ask.
    """
    query = select(Repositories.id, policy_version()).where(Repositories.name == bindparam("repository"))
    return query.with_for_update(read=not exclusive, key_share=not exclusive)


@cache
def _create(dialect: str) -> Any:  # noqa: ANN401 -- see insert_for
    """Return the statement of ``ensure``, cached: building it takes longer than executing it."""
    return insert_for(dialect, Repositories).on_conflict_do_nothing()


@cache
def _has_content() -> Select[bool]:
    """Return the statement of ``is_empty``, cached: building it takes longer than executing it."""
    tables = (RepositoryBlobs, Manifests, V1Images, Uploads)
    return select(or_(*(exists().where(t.repository_id == bindparam("repository")) for t in tables)))


@cache
def _upstream() -> Select[str | None]:
    return select(Repositories.upstream).where(Repositories.name == bindparam("repository"))


@cache
def _find() -> Select[int, str]:
    among = Repositories.name.in_(bindparam("names", expanding=True))
    return select(Repositories.id, Repositories.name).where(among)


def _holds_an_image() -> ColumnElement[bool]:
    """Return the condition that the repository has a manifest or a complete V1 image."""
    v1 = V1Images.complete & (V1Images.repository_id == Repositories.id)
    return exists().where(Manifests.repository_id == Repositories.id) | exists().where(v1)


def _shows_an_image() -> ColumnElement[bool]:
    """Return the same condition for use as a column.

    With EXISTS, PostgreSQL may scan all manifests to answer for a hundred repositories. Of three looks, the
    first one that finds something is the last. A tag points at a manifest, and the index by the names of
    tags, which the order asks for, is the smallest: in a large catalog each look reads another page of it.
    """
    looks = (
        select(literal(1)).where(Tags.repository_id == Repositories.id).order_by(Tags.name),
        select(literal(1)).where(Manifests.repository_id == Repositories.id),
        select(literal(1)).where(V1Images.repository_id == Repositories.id, V1Images.complete),
    )
    return func.coalesce(*(look.limit(1).scalar_subquery() for look in looks)).is_not(None)
