"""SQL of uploads. The offset in the catalog is authoritative; the staged file may have more bytes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Delete,
    Executable,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    update,
)

from dualreg.catalog import dialects, prepared
from dualreg.catalog.clock import EPOCH
from dualreg.catalog.policies import policy_version
from dualreg.catalog.rows import Lease, OtherUploads, RepositoryRow, UnderwayRow, UploadRow
from dualreg.catalog.tables import Repositories, Uploads
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, UploadId

#: The columns of an upload that no request holds the lease of.
_FREE = {"lease": None, "lease_until": None, "process": "", "arriving": 0}
#: Columns that change when bytes are durable, and the names of their parameters.
ADVANCED = {"offset": "new_offset", "layout": "new_layout", "digest_so_far": "so_far", "touched_at": "now"}
#: More uploads than a client can have.
_NO_LIMIT = 1 << 62
#: In RETURNING, the bytes of all other uploads, and of those of the same client. As expressions, they would
#: take longer to make than the statement takes.
_TOTAL = '(SELECT coalesce(sum(o."offset" + o.arriving), 0) FROM uploads AS o WHERE o.id <> uploads.id)'
_OWN = f"{_TOTAL[:-1]} AND o.client = uploads.client AND uploads.client <> '')"
_COLUMNS = (
    Uploads.id,
    Uploads.repository_id,
    Uploads.offset,
    Uploads.digest_so_far,
    Uploads.touched_at,
    Uploads.staged,
    Uploads.layout,
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

    def start(
        self,
        repository_id: int,
        upload: UploadId,
        client: str = "",
        *,
        limit: int | None = None,
        since: datetime = EPOCH,
    ) -> bool:
        """Add a new upload without bytes; return False if *client* has *limit* of them already.

        Transactions that run at the same moment do not see each other's.

        Args:
            client: Who starts it, as text of at most 64 characters; empty: not known.
            since: Those that were last touched before this do not count.
        """
        row = {"id": upload, "staged": upload, "repository_id": repository_id, "client": client, "offset": 0}
        row |= {"started_at": self.now, "touched_at": self.now}
        parameters = {f"new_{name}": value for name, value in row.items()}
        counted = {"since": since, "limit": _NO_LIMIT if limit is None else limit}
        return prepared.row(self.connection, _start(), parameters | counted) is not None

    def begin(self, repository_id: int, upload: UploadId, staged: UploadId) -> None:
        """Add an upload without bytes, which are to be called *staged*, unless there is one with its id."""
        row = {"id": upload, "staged": staged, "repository_id": repository_id, "offset": 0}
        row |= {"started_at": self.now, "touched_at": self.now}
        self.connection.execute(dialects.insert(self.connection, Uploads).on_conflict_do_nothing(), row)

    def underway(self, upload: UploadId) -> UnderwayRow | None:
        """Return how far an upload is, in whichever repository; None if there is none."""
        columns = (Uploads.offset, Uploads.staged, Uploads.layout, Uploads.lease_until, Uploads.process)
        query = select(Repositories.name, *columns).join(Repositories).where(Uploads.id == upload)
        row = self.connection.execute(query).one_or_none()
        if row is None:
            return None
        repository, offset, staged, layout, until, process = row
        return UnderwayRow(
            RepositoryName(repository), upload, offset, UploadId(staged), layout, until, process
        )

    def find(
        self, repository: RepositoryName, upload: UploadId, *, since: datetime = EPOCH
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
        since: datetime = EPOCH,
        offset: int | None = None,
        over: str | None = None,
    ) -> UploadRow | None:
        """Take *lease*, or keep it, for *duration* from now, and return the upload.

        Return None if there is no such upload, it was last touched before *since*, another lease is in force,
        or *offset* is given and differs from that of the upload.

        Args:
            over: The token of another lease that ends with this, although it is in force.
        """
        parameters = {"repository": repository, "upload": upload, "since": since, "at": offset}
        parameters |= {"new_lease": lease.token, "new_process": lease.process, "over": over}
        parameters |= {"now": self.now, "until": self.now + duration, "latest": self.now + 2 * duration}
        row = prepared.row(self.connection, _lease(anywhere=offset is None), parameters)
        return None if row is None else _row(row)

    def held(self, upload: UploadId) -> Lease | None:
        """Return the lease of the upload, in force or not; None if there is none."""
        query = select(Uploads.lease, Uploads.process).where(Uploads.id == upload, Uploads.lease.is_not(None))
        row = self.connection.execute(query).one_or_none()
        return None if row is None else Lease(str(row[0]), row[1])

    def secure(self, upload: UploadId, lease: str, staged: UploadId, layout: str) -> bool:
        """Record that only the holder of the lease can write to the bytes called *staged*, the upload's.

        Return whether the lease was still held.

        Args:
            layout: Of these bytes, see ``BlobStore.layout``.
        """
        held = (Uploads.id == upload) & (Uploads.lease == lease)
        statement = update(Uploads).where(held).values(staged=staged, layout=layout, stalled=None)
        return self.connection.execute(statement).rowcount > 0

    def renew(
        self,
        upload: UploadId,
        lease: str,
        *,
        duration: timedelta,
        arriving: int = 0,
        durable: tuple[int, str] | None = None,
    ) -> OtherUploads | None:
        """Extend the lease to *duration* from now, and return what else is in progress.

        Return None if it is not held any more. A lease that another caller has taken cannot be regained: that
        caller may have truncated the upload.

        Args:
            arriving: How many bytes its holder has received beyond the offset.
            durable: A new offset, up to which bytes are durable, and their ``BlobStore.layout``.
        """
        held = (Uploads.id == upload) & (Uploads.lease == lease)
        values = {"lease_until": self.now + duration, "touched_at": self.now, "arriving": arriving}
        if durable:
            values |= {"offset": durable[0], "layout": durable[1], "digest_so_far": None}
        row = self.connection.execute(
            update(Uploads).where(held).values(values).returning(*others())
        ).one_or_none()
        return None if row is None else OtherUploads(*map(int, row))

    def advance(
        self, upload: UploadId, lease: str, *, offset: int, layout: str, digest_so_far: Digest | None
    ) -> bool:
        """Record that *offset* bytes are durable, and release the lease; return whether it was still held.

        Args:
            layout: Of these bytes, see ``BlobStore.layout``.
        """
        values = {"upload": upload, "held": lease, "new_offset": offset, "new_layout": layout}
        values |= {"so_far": digest_so_far, "now": self.now}
        return prepared.change(self.connection, _advance(), values) > 0

    def release(self, upload: UploadId, lease: str) -> None:
        """Release the lease, if it is held, and change nothing else."""
        held = (Uploads.id == upload) & (Uploads.lease == lease)
        self.connection.execute(update(Uploads).where(held).values(_FREE))

    def remove(self, upload: UploadId, lease: str) -> bool:
        """Delete the upload if the lease is still held; return whether it was.

        Its repository is locked first, as by ``RepositoryQueries.lock``.
        """
        return prepared.change(self.connection, _remove(), {"upload": upload, "held": lease}) > 0

    def finish(self, upload: UploadId, lease: str, repository: RepositoryName) -> RepositoryRow | None:
        """Delete the upload, as ``remove``; return its repository as ``RepositoryQueries.lock`` does."""
        row = prepared.row(self.connection, _finish(), {"upload": upload, "held": lease})
        return None if row is None else RepositoryRow(row[0], repository, row[1])

    def idle(self, *, before: datetime, limit: int | None = None) -> tuple[UploadId, ...]:
        """Return the uploads last touched before *before*, the oldest first, at most *limit* of them."""
        query = select(Uploads.id).where(Uploads.touched_at < before).order_by(Uploads.touched_at)
        query = query.limit(limit)
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


@cache
def others() -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Return the columns of ``OtherUploads``."""
    return literal_column(_OWN, BigInteger), literal_column(_TOTAL, BigInteger)


@cache
def _start() -> Executable:
    """Return the statement of ``UploadQueries.start``, which takes long to make."""
    names = ("id", "staged", "repository_id", "client", "offset", "started_at", "touched_at")
    columns = [Uploads.__table__.c[name] for name in names]
    new = select(*(bindparam(f"new_{column.key}", type_=column.type) for column in columns))
    is_counted = (Uploads.client == bindparam("new_client")) & (Uploads.touched_at >= bindparam("since"))
    count = select(func.count()).where(is_counted).scalar_subquery()
    statement = insert(Uploads).from_select(columns, new.where(count < bindparam("limit", type_=BigInteger)))
    return statement.returning(Uploads.id)


@cache
def _advance() -> Executable:
    """Return the statement of ``UploadQueries.advance``, which takes long to make."""
    columns = Uploads.__table__.c
    new = {name: bindparam(key, type_=columns[name].type) for name, key in ADVANCED.items()}
    held = (Uploads.id == bindparam("upload")) & (Uploads.lease == bindparam("held"))
    return update(Uploads).where(held).values({**new, **_FREE})


@cache
def _remove() -> Delete:
    """Return the statement of ``UploadQueries.remove``, which takes long to make."""
    return removing(Uploads.lease == bindparam("held"))


def removing(condition: ColumnElement[bool]) -> Delete:
    """Return the statement that deletes an upload under a condition, and locks its repository first."""
    owner = select(Repositories.id).where(Repositories.id == Uploads.repository_id)
    locked = Uploads.repository_id == owner.with_for_update(read=True, key_share=True).scalar_subquery()
    return delete(Uploads).where(Uploads.id == bindparam("upload"), condition, locked)


@cache
def _finish() -> Executable:
    """Return the statement of ``UploadQueries.finish``, which takes long to make."""
    return _remove().returning(Uploads.repository_id, policy_version())


@cache
def _lease(*, anywhere: bool) -> Executable:
    """Return the statement of ``UploadQueries.lease``, which takes long to make.

    Args:
        anywhere: Whether the offset may be any.
    """
    columns = Uploads.__table__.c
    token = bindparam("new_lease", type_=columns.lease.type)
    now = bindparam("now", type_=columns.touched_at.type)
    owner = select(Repositories.id).where(Repositories.name == bindparam("repository")).scalar_subquery()
    is_free = or_(
        Uploads.lease.is_(None),
        Uploads.lease == token,
        Uploads.lease == bindparam("over"),
        Uploads.lease_until < now,
        Uploads.lease_until > bindparam("latest"),  # the clock was set back
    )
    is_lost = Uploads.stalled.is_(None) & Uploads.lease.is_not(None) & (Uploads.lease != token)
    return (
        update(Uploads)
        .where(Uploads.id == bindparam("upload"), Uploads.repository_id == owner, is_free)
        .where(Uploads.touched_at >= bindparam("since"))
        .where(true() if anywhere else Uploads.offset == bindparam("at"))
        .values(
            lease=token,
            lease_until=bindparam("until", type_=columns.lease_until.type),
            touched_at=now,
            process=bindparam("new_process", type_=columns.process.type),
            arriving=0,
            stalled=case((is_lost, Uploads.process), else_=Uploads.stalled),
        )
        .returning(*_COLUMNS, *others())
    )


def _row(row: Sequence[Any]) -> UploadRow:
    upload, repository_id, offset, so_far, touched_at, staged, layout, stalled, *others = row
    return UploadRow(
        UploadId(upload),
        repository_id,
        offset,
        so_far,
        touched_at,
        UploadId(staged),
        layout,
        stalled,
        OtherUploads(*map(int, others)),
    )
