"""SQL of uploads: the offset here is the truth, whatever the staged file holds."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Row, delete, insert, or_, select, true, update

from dualreg.catalog.rows import UploadRow
from dualreg.catalog.tables import Repositories, Uploads
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, UploadId

#: Before any upload was ever touched.
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class UploadQueries:
    """Which uploads are under way, and who may write to them."""

    connection: Connection
    now: datetime

    def start(self, repository_id: int, upload: UploadId) -> None:
        """Record a new, empty upload."""
        row = {"id": upload, "repository_id": repository_id, "offset": 0}
        self.connection.execute(
            insert(Uploads).values(row | {"started_at": self.now, "touched_at": self.now})
        )

    def find(
        self, repository: RepositoryName, upload: UploadId, *, since: datetime = _EVER
    ) -> UploadRow | None:
        """Return the upload if it belongs to the repository and was touched after *since*."""
        query = (
            select(
                Uploads.id, Uploads.repository_id, Uploads.offset, Uploads.digest_so_far, Uploads.touched_at
            )
            .join(Repositories, Repositories.id == Uploads.repository_id)
            .where(Repositories.name == repository, Uploads.id == upload, Uploads.touched_at >= since)
        )
        row = self.connection.execute(query).one_or_none()
        return None if row is None else _row(row)

    def lease(
        self,
        repository: RepositoryName,
        upload: UploadId,
        lease: str,
        *,
        duration: timedelta,
        since: datetime = _EVER,
        offset: int | None = None,
    ) -> UploadRow | None:
        """Take the right to write (or keep it), for *duration*, and return the upload.

        None if there is no such upload, it was not touched after *since*, another has the lease, or *offset*
        is given and is not the upload's.
        """
        owner = select(Repositories.id).where(Repositories.name == repository).scalar_subquery()
        free = or_(Uploads.lease.is_(None), Uploads.lease_until < self.now, Uploads.lease == lease)
        statement = (
            update(Uploads)
            .where(Uploads.id == upload, Uploads.repository_id == owner, free)
            .where(Uploads.touched_at >= since)
            .where(Uploads.offset == offset if offset is not None else true())
            .values(lease=lease, lease_until=self.now + duration, touched_at=self.now)
            .returning(
                Uploads.id, Uploads.repository_id, Uploads.offset, Uploads.digest_so_far, Uploads.touched_at
            )
        )
        row = self.connection.execute(statement).one_or_none()
        return None if row is None else _row(row)

    def renew(self, upload: UploadId, lease: str, *, duration: timedelta) -> bool:
        """Keep the right to write for *duration* from now; tell whether it was still held.

        Never taken back once somebody else had it: they may have cut what we wrote.
        """
        held = (Uploads.id == upload) & (Uploads.lease == lease)
        statement = update(Uploads).where(held)
        statement = statement.values(lease_until=self.now + duration, touched_at=self.now)
        return self.connection.execute(statement).rowcount > 0

    def advance(self, upload: UploadId, lease: str, *, offset: int, digest_so_far: Digest | None) -> bool:
        """Record *offset* durable bytes and give the lease back; tell whether it was still held."""
        statement = (
            update(Uploads)
            .where(Uploads.id == upload, Uploads.lease == lease)
            .values(
                offset=offset,
                digest_so_far=digest_so_far,
                lease=None,
                lease_until=None,
                touched_at=self.now,
            )
        )
        return self.connection.execute(statement).rowcount > 0

    def release(self, upload: UploadId, lease: str) -> None:
        """Give the lease back and change nothing else."""
        held = (Uploads.id == upload) & (Uploads.lease == lease)
        self.connection.execute(update(Uploads).where(held).values(lease=None, lease_until=None))

    def remove(self, upload: UploadId, lease: str) -> bool:
        """Forget the upload, if *lease* is still held; tell whether."""
        statement = delete(Uploads).where(Uploads.id == upload, Uploads.lease == lease)
        return self.connection.execute(statement).rowcount > 0

    def idle(self, *, before: datetime) -> tuple[UploadId, ...]:
        """Return the uploads that nobody touched since *before*."""
        query = select(Uploads.id).where(Uploads.touched_at < before).order_by(Uploads.touched_at)
        return tuple(UploadId(upload) for upload in self.connection.scalars(query))

    def remove_idle(self, upload: UploadId, *, before: datetime) -> bool:
        """Forget the upload, unless somebody touched it meanwhile; tell whether."""
        statement = delete(Uploads).where(Uploads.id == upload, Uploads.touched_at < before)
        return self.connection.execute(statement).rowcount > 0

    def known(self, uploads: Collection[UploadId]) -> frozenset[UploadId]:
        """Return those of *uploads* that have a row."""
        query = select(Uploads.id).where(Uploads.id.in_(uploads))
        return frozenset(UploadId(upload) for upload in self.connection.scalars(query))


def _row(row: Row[str, int, int, Digest | None, datetime]) -> UploadRow:
    return UploadRow(UploadId(row[0]), *row[1:])
