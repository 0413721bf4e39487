"""SQL of uploads. The offset in the catalog is authoritative; the staged file may have more bytes."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Row, delete, insert, or_, select, true, update

from dualreg.catalog.rows import UploadRow
from dualreg.catalog.tables import Repositories, Uploads
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, UploadId

#: A time before any upload.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class UploadQueries:
    """The uploads in progress, and their leases.

    A lease is the exclusive right to write to an upload. It expires unless it is renewed; then any caller may
    take it.
    """

    connection: Connection
    now: datetime

    def start(self, repository_id: int, upload: UploadId) -> None:
        """Add a new upload without bytes."""
        row = {"id": upload, "repository_id": repository_id, "offset": 0}
        self.connection.execute(
            insert(Uploads).values(row | {"started_at": self.now, "touched_at": self.now})
        )

    def find(
        self, repository: RepositoryName, upload: UploadId, *, since: datetime = _EPOCH
    ) -> UploadRow | None:
        """Return the upload of the repository if it was touched at or after *since*; else None."""
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
        since: datetime = _EPOCH,
        offset: int | None = None,
    ) -> UploadRow | None:
        """Take the lease called *lease*, or keep it, for *duration* from now, and return the upload.

        Return None if there is no such upload, it was last touched before *since*, another lease is in force,
        or *offset* is given and differs from that of the upload.
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
        """Extend the lease to *duration* from now; return whether it was still held.

        A lease that another caller has taken cannot be regained: that caller may have truncated the upload.
        """
        held = (Uploads.id == upload) & (Uploads.lease == lease)
        statement = update(Uploads).where(held)
        statement = statement.values(lease_until=self.now + duration, touched_at=self.now)
        return self.connection.execute(statement).rowcount > 0

    def advance(self, upload: UploadId, lease: str, *, offset: int, digest_so_far: Digest | None) -> bool:
        """Record that *offset* bytes are durable, and release the lease; return whether it was still held."""
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
        """Release the lease, if it is held, and change nothing else."""
        held = (Uploads.id == upload) & (Uploads.lease == lease)
        self.connection.execute(update(Uploads).where(held).values(lease=None, lease_until=None))

    def remove(self, upload: UploadId, lease: str) -> bool:
        """Delete the upload if the lease is still held; return whether it was."""
        statement = delete(Uploads).where(Uploads.id == upload, Uploads.lease == lease)
        return self.connection.execute(statement).rowcount > 0

    def idle(self, *, before: datetime) -> tuple[UploadId, ...]:
        """Return the uploads that were last touched before *before*, oldest first."""
        query = select(Uploads.id).where(Uploads.touched_at < before).order_by(Uploads.touched_at)
        return tuple(UploadId(upload) for upload in self.connection.scalars(query))

    def remove_idle(self, upload: UploadId, *, before: datetime) -> bool:
        """Delete the upload if it was last touched before *before*; return whether it was."""
        statement = delete(Uploads).where(Uploads.id == upload, Uploads.touched_at < before)
        return self.connection.execute(statement).rowcount > 0

    def known(self, uploads: Collection[UploadId]) -> frozenset[UploadId]:
        """Return those of *uploads* that exist."""
        query = select(Uploads.id).where(Uploads.id.in_(uploads))
        return frozenset(UploadId(upload) for upload in self.connection.scalars(query))


def _row(row: Row[str, int, int, Digest | None, datetime]) -> UploadRow:
    return UploadRow(UploadId(row[0]), *row[1:])
