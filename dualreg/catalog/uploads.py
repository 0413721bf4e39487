"""SQL of uploads. The offset in the catalog is authoritative; the staged file may have more bytes."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Row, case, delete, insert, or_, select, true, update

from dualreg.catalog.rows import Lease, UploadRow
from dualreg.catalog.tables import Repositories, Uploads
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, UploadId

#: A time before any upload.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The columns of an upload that no request holds the lease of.
_FREE = {"lease": None, "lease_until": None, "process": ""}
_COLUMNS = (
    Uploads.id,
    Uploads.repository_id,
    Uploads.offset,
    Uploads.digest_so_far,
    Uploads.touched_at,
    Uploads.staged,
    Uploads.stalled,
)


@dataclass(frozen=True, slots=True)
class UploadQueries:
    """The uploads in progress, and their leases.

    A lease is the exclusive right to write to an upload. It expires unless it is renewed; then any caller may
    take it. The row names the process that lost it until ``secure`` says that this process does no harm.
    """

    connection: Connection
    now: datetime

    def start(self, repository_id: int, upload: UploadId) -> None:
        """Add a new upload without bytes."""
        row = {"id": upload, "staged": upload, "repository_id": repository_id, "offset": 0}
        self.connection.execute(
            insert(Uploads).values(row | {"started_at": self.now, "touched_at": self.now})
        )

    def find(
        self, repository: RepositoryName, upload: UploadId, *, since: datetime = _EPOCH
    ) -> UploadRow | None:
        """Return the upload of the repository if it was touched at or after *since*; else None."""
        query = (
            select(*_COLUMNS)
            .join(Repositories, Repositories.id == Uploads.repository_id)
            .where(Repositories.name == repository, Uploads.id == upload, Uploads.touched_at >= since)
        )
        row = self.connection.execute(query).one_or_none()
        return None if row is None else _row(row)

    def lease(
        self,
        repository: RepositoryName,
        upload: UploadId,
        lease: Lease,
        *,
        duration: timedelta,
        since: datetime = _EPOCH,
        offset: int | None = None,
        over: str | None = None,
    ) -> UploadRow | None:
        """Take *lease*, or keep it, for *duration* from now, and return the upload.

        Return None if there is no such upload, it was last touched before *since*, another lease is in force,
        or *offset* is given and differs from that of the upload.

        Args:
            over: The token of another lease that ends with this, although it is in force.
        """
        owner = select(Repositories.id).where(Repositories.name == repository).scalar_subquery()
        free = or_(
            Uploads.lease.is_(None), Uploads.lease_until < self.now, Uploads.lease.in_([lease.token, over])
        )
        is_lost = Uploads.stalled.is_(None) & Uploads.lease.is_not(None) & (Uploads.lease != lease.token)
        statement = (
            update(Uploads)
            .where(Uploads.id == upload, Uploads.repository_id == owner, free)
            .where(Uploads.touched_at >= since)
            .where(Uploads.offset == offset if offset is not None else true())
            .values(
                lease=lease.token,
                lease_until=self.now + duration,
                touched_at=self.now,
                process=lease.process,
                stalled=case((is_lost, Uploads.process), else_=Uploads.stalled),
            )
            .returning(*_COLUMNS)
        )
        row = self.connection.execute(statement).one_or_none()
        return None if row is None else _row(row)

    def held(self, upload: UploadId) -> Lease | None:
        """Return the lease of the upload, in force or not; None if there is none."""
        query = select(Uploads.lease, Uploads.process).where(Uploads.id == upload, Uploads.lease.is_not(None))
        row = self.connection.execute(query).one_or_none()
        return None if row is None else Lease(str(row[0]), row[1])

    def secure(self, upload: UploadId, lease: str, staged: UploadId) -> bool:
        """Record that only the holder of the lease can write to the bytes called *staged*, the upload's.

        Return whether the lease was still held.
        """
        held = (Uploads.id == upload) & (Uploads.lease == lease)
        statement = update(Uploads).where(held).values(staged=staged, stalled=None)
        return self.connection.execute(statement).rowcount > 0

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
                **_FREE,
                touched_at=self.now,
            )
        )
        return self.connection.execute(statement).rowcount > 0

    def release(self, upload: UploadId, lease: str) -> None:
        """Release the lease, if it is held, and change nothing else."""
        held = (Uploads.id == upload) & (Uploads.lease == lease)
        self.connection.execute(update(Uploads).where(held).values(_FREE))

    def remove(self, upload: UploadId, lease: str) -> bool:
        """Delete the upload if the lease is still held; return whether it was."""
        statement = delete(Uploads).where(Uploads.id == upload, Uploads.lease == lease)
        return self.connection.execute(statement).rowcount > 0

    def idle(self, *, before: datetime) -> tuple[UploadId, ...]:
        """Return the uploads that were last touched before *before*, oldest first."""
        query = select(Uploads.id).where(Uploads.touched_at < before).order_by(Uploads.touched_at)
        return tuple(UploadId(upload) for upload in self.connection.scalars(query))

    def remove_idle(self, upload: UploadId, *, before: datetime) -> UploadId | None:
        """Delete the upload if it was last touched before *before*; return its staged bytes, else None."""
        statement = delete(Uploads).where(Uploads.id == upload, Uploads.touched_at < before)
        staged = self.connection.scalar(statement.returning(Uploads.staged))
        return None if staged is None else UploadId(staged)

    def named(self, staged: Collection[UploadId]) -> frozenset[UploadId]:
        """Return those of *staged* that are the bytes of an upload."""
        query = select(Uploads.staged).where(Uploads.staged.in_(staged))
        return frozenset(UploadId(upload) for upload in self.connection.scalars(query))


def _row(row: Row[str, int, int, Digest | None, datetime, str, str | None]) -> UploadRow:
    return UploadRow(UploadId(row[0]), *row[1:5], UploadId(row[5]), row[6])
