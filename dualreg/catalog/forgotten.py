"""SQL of what was deleted here, and is not to come back from where it came from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.tables import Forgotten
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName

#: Stands for the repository as a whole.
_ALL = ""


@dataclass(frozen=True, slots=True)
class ForgottenQueries:
    """Which tags, manifests, V1 images and whole repositories were deleted, and when."""

    connection: Connection
    now: datetime

    def mark(self, repository: RepositoryName, references: Iterable[str | Digest]) -> None:
        """Record that tags, manifests (by digest) or V1 images (by id) are deleted now."""
        told = sorted({str(reference) for reference in references})
        rows = [{"repository": repository, "reference": each, "at": self.now} for each in told]
        if rows:
            row = insert(self.connection, Forgotten)
            again = row.on_conflict_do_update(
                index_elements=[Forgotten.repository, Forgotten.reference], set_={"at": self.now}
            )
            self.connection.execute(again, rows)

    def mark_all(self, repository: RepositoryName) -> None:
        """Record that everything in the repository is deleted now."""
        self.connection.execute(delete(Forgotten).where(Forgotten.repository == repository))
        self.mark(repository, [_ALL])

    def at(self, repository: RepositoryName, *references: str | Digest) -> datetime | None:
        """Return when any of *references*, or the whole repository, was deleted last; None: never."""
        wanted = [_ALL, *map(str, references)]
        here = (Forgotten.repository == repository) & Forgotten.reference.in_(wanted)
        return self.connection.scalar(select(func.max(Forgotten.at)).where(here))

    def of(self, repository: RepositoryName) -> "Deletions":
        """Return everything that was deleted of a repository."""
        query = select(Forgotten.reference, Forgotten.at).where(Forgotten.repository == repository)
        return Deletions({row.reference: row.at for row in self.connection.execute(query)})


@dataclass(frozen=True, slots=True)
class Deletions:
    """When things of one repository were deleted."""

    times: Mapping[str, datetime]

    def at(self, *references: str) -> datetime | None:
        """Return the same as ``ForgottenQueries.at``."""
        found = (self.times.get(each) for each in (_ALL, *references))
        return max(filter(None, found), default=None)
