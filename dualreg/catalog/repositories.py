"""SQL of repositories."""

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, exists, func, literal, or_, select

from dualreg.catalog.dialects import insert, within
from dualreg.catalog.rows import RepositoryRow
from dualreg.catalog.tables import Manifests, Repositories, RepositoryBlobs, Uploads, V1Images
from dualreg.image.names import RepositoryName, UploadId
from dualreg.image.reach import EVERYWHERE, Reach

#: Rows fetched at a time by a reader that stops when it has enough.
_BATCH = 128


@dataclass(frozen=True, slots=True)
class RepositoryQueries:
    """Which repositories there are."""

    connection: Connection
    now: datetime

    def ensure(self, name: RepositoryName, *, exclusive: bool = False) -> RepositoryRow:
        """Return the repository, made if need be, and locked as by ``lock``."""
        known = self.lock(name, exclusive=exclusive)
        if known is None:
            row = insert(self.connection, Repositories).values(name=name, created_at=self.now)
            self.connection.execute(row.on_conflict_do_nothing())
            known = self.lock(name, exclusive=exclusive)
        assert known is not None  # noqa: S101 -- inserted above, or by whom we waited for
        return known

    def lock(self, name: RepositoryName, *, exclusive: bool = False) -> RepositoryRow | None:
        """Return the repository, and keep it from being deleted until the transaction ends.

        With *exclusive*, keep everybody else from writing to it: for those who look before they write.
        """
        query = select(Repositories.id).where(Repositories.name == name)
        id_ = self.connection.scalar(query.with_for_update(read=not exclusive))
        return None if id_ is None else RepositoryRow(id_, name)

    def find(self, *names: RepositoryName) -> RepositoryRow | None:
        """Return the first of *names* that exists."""
        query = select(Repositories.id, Repositories.name).where(Repositories.name.in_(names))
        found = {name: id_ for id_, name in self.connection.execute(query)}
        return next((RepositoryRow(found[name], name) for name in names if name in found), None)

    def is_empty(self, repository_id: int) -> bool:
        """Tell whether the repository holds nothing at all, and nobody is pushing to it."""
        tables = (RepositoryBlobs, Manifests, V1Images, Uploads)
        found = (exists().where(table.repository_id == repository_id) for table in tables)
        return not self.connection.scalar(select(or_(*found)))

    def remove(self, repository_id: int) -> tuple[UploadId, ...]:
        """Forget the repository and all it holds; return its uploads, whose bytes nobody knows of now."""
        uploads = self.connection.scalars(
            delete(Uploads).where(Uploads.repository_id == repository_id).returning(Uploads.id)
        ).all()
        for table in (V1Images, Manifests, RepositoryBlobs):
            self.connection.execute(delete(table).where(table.repository_id == repository_id))
        self.connection.execute(delete(Repositories).where(Repositories.id == repository_id))
        return tuple(map(UploadId, uploads))

    def walk(
        self, *, last: str, limit: int, reach: Reach = EVERYWHERE
    ) -> Generator[tuple[RepositoryName, bool], None, None]:
        """Yield up to *limit* names of *reach* after *last*, in order, and whether they hold an image."""
        query = select(Repositories.name, _shows_an_image()).where(Repositories.name > last)
        query = query.where(within(Repositories.name, reach))
        query = query.order_by(Repositories.name).limit(limit)
        with self.connection.execute(query, execution_options={"yield_per": _BATCH}) as rows:
            for name, shown in rows:
                yield RepositoryName(name), bool(shown)

    def search(
        self, term: str, *, offset: int, limit: int, reach: Reach = EVERYWHERE
    ) -> tuple[int, tuple[RepositoryName, ...]]:
        """Return how many names of *reach* contain *term*, and *limit* of them from *offset* on."""
        if "\0" in term:  # which no name has, and databases cannot take
            return 0, ()
        matches = Repositories.name.contains(term, autoescape=True) & _holds_an_image()
        matches &= within(Repositories.name, reach)
        total = self.connection.scalar(select(func.count()).select_from(Repositories).where(matches)) or 0
        query = (
            select(Repositories.name).where(matches).order_by(Repositories.name).offset(offset).limit(limit)
        )
        return total, tuple(RepositoryName(name) for name in self.connection.scalars(query))


def _holds_an_image() -> ColumnElement[bool]:
    """Hide names under which nothing was ever completed."""
    v1 = V1Images.complete & (V1Images.repository_id == Repositories.id)
    return exists().where(Manifests.repository_id == Repositories.id) | exists().where(v1)


def _shows_an_image() -> ColumnElement[bool]:
    """Tell the same of each row that is read.

    As an EXISTS, PostgreSQL might look at all manifests there are to answer for a hundred repositories.
    """
    manifest = select(literal(1)).where(Manifests.repository_id == Repositories.id).limit(1)
    image = select(literal(1)).where(V1Images.repository_id == Repositories.id, V1Images.complete).limit(1)
    return or_(manifest.scalar_subquery().is_not(None), image.scalar_subquery().is_not(None))
