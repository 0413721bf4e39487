"""SQL of referrers: manifests whose subject is another manifest."""

from collections.abc import Collection, Generator
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import Connection, Select, bindparam, select, tuple_

from dualreg.catalog.rows import ReferrerRow
from dualreg.catalog.tables import Blobs, Manifests, Repositories
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName

#: Number of rows to fetch at a time: readers stop early, and annotations may be long.
_BATCH = 16


@dataclass(frozen=True, slots=True)
class ReferrerQueries:
    """The manifests that refer to a subject, whether or not the subject exists."""

    connection: Connection

    def walk(
        self,
        repository: RepositoryName,
        subject: Digest,
        *,
        artifact_type: str | None,
        after: tuple[datetime, Digest] | None,
        limit: int,
    ) -> Generator[ReferrerRow, None, None]:
        """Yield up to *limit* referrers of *subject*, ordered by the time of their push, then by digest.

        Args:
            artifact_type: Only yield referrers of this type; None: of any type.
            after: Only yield referrers after this time and digest: those of the last one seen.
        """
        if artifact_type and "\0" in artifact_type:
            return  # PostgreSQL refuses NUL; no type contains it
        # With a join, PostgreSQL does not see that the index has the rows of the repository in order.
        owner = select(Repositories.id).where(Repositories.name == repository).scalar_subquery()
        query = _manifests().where(Manifests.repository_id == owner, Manifests.subject == subject)
        query = query.order_by(Manifests.pushed_at, Manifests.digest).limit(limit)
        if artifact_type is not None:
            query = query.where(Manifests.artifact_type == artifact_type)
        if after is not None:
            place = tuple_(Manifests.pushed_at, Manifests.digest)
            query = query.where(
                place > tuple_(*after, types=[Manifests.pushed_at.type, Manifests.digest.type])
            )
        with self.connection.execute(query, execution_options={"yield_per": _BATCH}) as rows:
            for row in rows:
                yield ReferrerRow(*row)

    def among(
        self, repository: RepositoryName, subjects: Collection[Digest], limit: int
    ) -> list[tuple[Digest, Digest]]:
        """Return up to *limit* referrers of *subjects*, each after its subject, in the order of ``walk``.

        Args:
            subjects: At most as many as fit into one statement.
        """
        query = _referring().limit(limit)
        found = self.connection.execute(query, {"repository": repository, "subjects": [*subjects]})
        return [(subject, digest) for subject, digest in found if subject]


@cache
def _referring() -> Select[Digest | None, Digest]:
    owner = select(Repositories.id).where(Repositories.name == bindparam("repository")).scalar_subquery()
    among = Manifests.subject.in_(bindparam("subjects", expanding=True))
    query = select(Manifests.subject, Manifests.digest).where(Manifests.repository_id == owner, among)
    return query.order_by(Manifests.subject, Manifests.pushed_at, Manifests.digest)


def _manifests() -> Select[Digest, str, int, str, dict[str, str], datetime]:
    columns = (Manifests.artifact_type, Manifests.annotations, Manifests.pushed_at)
    query = select(Manifests.digest, Manifests.media_type, Blobs.size, *columns)
    return query.join(Blobs, Blobs.digest == Manifests.digest)
