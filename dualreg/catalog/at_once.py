"""SQL of uploads whose bytes came in one request: no request needs a lease to give them or to take them."""

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Executable, bindparam, select, update

from dualreg.catalog import prepared
from dualreg.catalog.clock import EPOCH
from dualreg.catalog.policies import policy_version
from dualreg.catalog.rows import WHOLE, OtherUploads, RepositoryRow
from dualreg.catalog.tables import Repositories, Uploads
from dualreg.catalog.uploads import ADVANCED, others, removing
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, UploadId


class WholeBytes(NamedTuple):
    """All bytes of an upload, which nobody may write to.

    Attributes:
        staged: Their name in the store.
        layout: See ``BlobStore.layout``.
    """

    staged: UploadId
    layout: str
    size: int


@dataclass(frozen=True, slots=True)
class AtOnceQueries:
    """The uploads that have WHOLE bytes, as long as no request writes to them."""

    connection: Connection
    now: datetime

    def fill(
        self,
        repository: RepositoryName,
        upload: UploadId,
        staged: UploadId,
        *,
        offset: int,
        layout: str,
        digest_so_far: Digest,
        since: datetime = EPOCH,
    ) -> OtherUploads | None:
        """Record that an upload has the *offset* durable bytes called *staged*; return what else there is.

        Return None, and change nothing, if there is no such upload, it was last touched before *since*, or
        another request has ever written to it or holds its lease.
        """
        parameters = {"repository": repository, "upload": upload, "since": since, "now": self.now}
        parameters |= {"new_staged": staged, "new_layout": layout, "new_offset": offset}
        parameters |= {"so_far": digest_so_far}
        row = prepared.row(self.connection, _fill(), parameters)
        return None if row is None else OtherUploads(*map(int, row))

    def find(
        self, repository: RepositoryName, upload: UploadId, digest: Digest, *, since: datetime
    ) -> WholeBytes | None:
        """Return the bytes of an upload, which have the *digest*.

        Return None if there is no such upload, it was last touched before *since*, its bytes have another
        digest or came otherwise, or another request holds its lease.
        """
        values = {"repository": repository, "upload": upload, "digest": digest, "since": since}
        row = prepared.row(self.connection, _find(), values)
        return None if row is None else WholeBytes(UploadId(row[0]), row[1], row[2])

    def finish(self, upload: UploadId, staged: UploadId, repository: RepositoryName) -> RepositoryRow | None:
        """Delete the upload as ``UploadQueries.finish``, if its bytes are still *staged*.

        Return None, and change nothing, if they are not, or another request holds the lease.
        """
        row = prepared.row(self.connection, _finish(), {"upload": upload, "whole": staged})
        return None if row is None else RepositoryRow(row[0], repository, row[1])


@cache
def _fill() -> Executable:
    """Return the statement of ``fill``, which takes long to make."""
    columns = Uploads.__table__.c
    is_new = (Uploads.offset == 0) & Uploads.lease.is_(None) & Uploads.stalled.is_(None)
    return (
        update(Uploads)
        .where(_is_in_repository(), is_new)
        .where(Uploads.staged == Uploads.id, Uploads.touched_at >= bindparam("since"))
        .values({name: bindparam(key, type_=columns[name].type) for name, key in ADVANCED.items()})
        .values(staged=bindparam("new_staged", type_=columns.staged.type), stalled=WHOLE)
        .returning(*others())
    )


@cache
def _find() -> Executable:
    """Return the statement of ``find``, which takes long to make."""
    found = (Uploads.digest_so_far == bindparam("digest")) & (Uploads.touched_at >= bindparam("since"))
    query = select(Uploads.staged, Uploads.layout, Uploads.offset)
    return query.where(_is_in_repository(), found, _is_whole())


@cache
def _finish() -> Executable:
    """Return the statement of ``finish``, which takes long to make."""
    unchanged = (Uploads.staged == bindparam("whole")) & _is_whole()
    return removing(unchanged).returning(Uploads.repository_id, policy_version())


def _is_in_repository() -> ColumnElement[bool]:
    """Return the condition that an upload is the one that was asked for, in the repository."""
    owner = select(Repositories.id).where(Repositories.name == bindparam("repository")).scalar_subquery()
    return (Uploads.id == bindparam("upload")) & (Uploads.repository_id == owner)


def _is_whole() -> ColumnElement[bool]:
    """Return the condition that an upload is as ``fill`` left it, and no request holds its lease."""
    return (Uploads.stalled == WHOLE) & Uploads.lease.is_(None)
