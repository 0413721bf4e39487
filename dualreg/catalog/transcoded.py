"""SQL of transcoded layers: which gzip edition a layer has, and which process is making it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, or_, select, update

from dualreg.catalog.dialects import batches, insert
from dualreg.catalog.rows import BlobRow, Lease
from dualreg.catalog.tables import Blobs, TranscodedLayers
from dualreg.image.digest import Digest

#: The columns of a row that no process holds the lease of.
_FREE = {"lease": None, "lease_until": None, "process": ""}


@dataclass(frozen=True, slots=True)
class TranscodedQueries:
    """The gzip editions of layers, whichever repositories may read them.

    Rows go with either blob. They can be lost: what they say can be found out again.
    """

    connection: Connection
    now: datetime

    def find(self, sources: Collection[Digest]) -> dict[Digest, BlobRow]:
        """Return the gzip editions of those of *sources* that have one."""
        query = select(TranscodedLayers.source, Blobs.digest, Blobs.size)
        query = query.join(Blobs, Blobs.digest == TranscodedLayers.digest)
        return {
            source: BlobRow(digest, size)
            for batch in batches(sources)
            for source, digest, size in self.connection.execute(
                query.where(TranscodedLayers.source.in_(batch))
            )
        }

    def sources(self, digest: Digest) -> tuple[Digest, ...]:
        """Return the layers whose gzip edition is *digest*."""
        query = select(TranscodedLayers.source).where(TranscodedLayers.digest == digest)
        return tuple(self.connection.scalars(query.order_by(TranscodedLayers.source)))

    def unreadable(self, sources: Collection[Digest], made_by: str) -> frozenset[Digest]:
        """Return those of *sources* that *made_by* could not read."""
        found = TranscodedLayers.digest.is_(None) & (TranscodedLayers.made_by == made_by)
        query = select(TranscodedLayers.source).where(found)
        return frozenset(
            source
            for batch in batches(sources)
            for source in self.connection.scalars(query.where(TranscodedLayers.source.in_(batch)))
        )

    def lease(
        self,
        source: Digest,
        lease: Lease,
        *,
        duration: timedelta,
        over: str | None = None,
    ) -> bool:
        """Take *lease*, for *duration* from now, to make the gzip edition of a blob; return whether it is.

        It is not if another one is in force, or there is an edition.

        Args:
            over: The token of another lease that ends with this, although it is in force.
        """
        values = {"lease": lease.token, "process": lease.process, "lease_until": self.now + duration}
        statement = insert(self.connection, TranscodedLayers).values(source=source, **values)
        is_free = or_(
            TranscodedLayers.lease.is_(None),
            TranscodedLayers.lease == over,
            TranscodedLayers.lease_until < self.now,
            TranscodedLayers.lease_until > self.now + 2 * duration,  # the clock was set back
        )
        is_free &= TranscodedLayers.digest.is_(None)
        taken = statement.on_conflict_do_update(index_elements=["source"], set_=values, where=is_free)
        return self.connection.scalar(taken.returning(TranscodedLayers.source)) is not None

    def held(self, source: Digest) -> Lease | None:
        """Return the lease under which the edition of a layer is made; None if none is in force."""
        in_force = TranscodedLayers.lease_until >= self.now
        query = select(TranscodedLayers.lease, TranscodedLayers.process)
        row = self.connection.execute(
            query.where(TranscodedLayers.source == source, TranscodedLayers.lease.is_not(None), in_force)
        ).one_or_none()
        return None if row is None else Lease(str(row[0]), row[1])

    def renew(self, source: Digest, lease: str, *, duration: timedelta) -> bool:
        """Extend the lease to *duration* from now; return whether it was still held."""
        found = (TranscodedLayers.source == source) & (TranscodedLayers.lease == lease)
        extended = update(TranscodedLayers).where(found).values(lease_until=self.now + duration)
        return self.connection.execute(extended).rowcount > 0

    def release(self, source: Digest, lease: str) -> None:
        """Release the lease, if it is held; nothing was made."""
        found = (TranscodedLayers.source == source) & (TranscodedLayers.lease == lease)
        known = or_(TranscodedLayers.digest.is_not(None), TranscodedLayers.made_by.is_not(None))
        self.connection.execute(delete(TranscodedLayers).where(found, ~known))
        self.connection.execute(update(TranscodedLayers).where(found).values(_FREE))

    def record(self, source: Digest, digest: Digest | None, made_by: str) -> None:
        """Record the gzip edition of a layer, in place of an earlier one, and release the lease.

        Both are blobs. None: the layer cannot be read.
        """
        made = {"digest": digest, "made_by": made_by, **_FREE}
        statement = insert(self.connection, TranscodedLayers).values(source=source, **made)
        self.connection.execute(statement.on_conflict_do_update(index_elements=["source"], set_=made))

    def forget(self, source: Digest, digest: Digest) -> None:
        """Delete the record that *digest* is the gzip edition of a layer."""
        found = (TranscodedLayers.source == source) & (TranscodedLayers.digest == digest)
        self.connection.execute(delete(TranscodedLayers).where(found))
