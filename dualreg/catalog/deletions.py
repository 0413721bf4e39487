"""SQL of deletions, by which an on-demand import knows what it must not import again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import Connection, Select, bindparam, delete, func, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.tables import Deletions
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName

#: The reference that stands for the whole repository.
_REPOSITORY = ""


@dataclass(frozen=True, slots=True)
class DeletionQueries:
    """When tags, manifests, V1 images and whole repositories were last deleted.

    A reference is a tag, the digest of a manifest or the id of a V1 image.
    """

    connection: Connection
    now: datetime

    def record(self, repository: RepositoryName, references: Iterable[str | Digest]) -> None:
        """Record that *references* are deleted now."""
        ordered = sorted({str(reference) for reference in references})
        rows = [{"repository": repository, "reference": each, "at": self.now} for each in ordered]
        if rows:
            row = insert(self.connection, Deletions)
            again = row.on_conflict_do_update(
                index_elements=[Deletions.repository, Deletions.reference], set_={"at": self.now}
            )
            self.connection.execute(again, rows)

    def record_repository(self, repository: RepositoryName) -> None:
        """Record that the repository, with everything in it, is deleted now."""
        self.connection.execute(delete(Deletions).where(Deletions.repository == repository))
        self.record(repository, [_REPOSITORY])

    def last(self, repository: RepositoryName, *references: str | Digest) -> datetime | None:
        """Return when one of *references*, or the whole repository, was last deleted; None if never."""
        wanted = [_REPOSITORY, *map(str, references)]
        return self.connection.scalar(_last(), {"repository": repository, "references": wanted})

    def of(self, repository: RepositoryName) -> "RepositoryDeletions":
        """Return all deletions in a repository."""
        query = select(Deletions.reference, Deletions.at).where(Deletions.repository == repository)
        return RepositoryDeletions({row.reference: row.at for row in self.connection.execute(query)})


@cache
def _last() -> Select[datetime]:
    """Return the statement of ``last``, cached: building it takes longer than executing it."""
    among = Deletions.reference.in_(bindparam("references", expanding=True))
    return select(func.max(Deletions.at)).where(Deletions.repository == bindparam("repository"), among)


@dataclass(frozen=True, slots=True)
class RepositoryDeletions:
    """The deletions in one repository, with the time of the last one by reference."""

    times: Mapping[str, datetime]

    def last(self, *references: str) -> datetime | None:
        """Return what ``DeletionQueries.last`` returns."""
        found = (self.times.get(each) for each in (_REPOSITORY, *references))
        return max(filter(None, found), default=None)
