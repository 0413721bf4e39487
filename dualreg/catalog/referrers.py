"""SQL of referrers: the manifests that say they are about another one."""

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, select, tuple_

from dualreg.catalog.rows import ReferrerRow
from dualreg.catalog.tables import Blobs, Manifests, Repositories
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName

#: Rows fetched at a time: a reader that has enough stops, and annotations can be long.
_BATCH = 16


@dataclass(frozen=True, slots=True)
class ReferrerQueries:
    """Which manifests refer to a subject, whether or not the repository holds that."""

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
        """Yield up to *limit* referrers of *subject*, in the order they were pushed, then of digests.

        Args:
            artifact_type: Only those of this type.
            after: The instant and digest of the last one seen.
        """
        if artifact_type and "\0" in artifact_type:
            return  # no manifest has such a type, and databases cannot take it
        # As a join, PostgreSQL does not see that the index has all rows of the one repository in order.
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


def _manifests() -> Select[Digest, str, int, str, dict[str, str], datetime]:
    columns = (Manifests.artifact_type, Manifests.annotations, Manifests.pushed_at)
    query = select(Manifests.digest, Manifests.media_type, Blobs.size, *columns)
    return query.join(Blobs, Blobs.digest == Manifests.digest)
