"""SQL of transcoded layers: which gzip edition a layer has, whichever repositories may read it."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, select

from dualreg.catalog.dialects import batches, insert
from dualreg.catalog.rows import BlobRow
from dualreg.catalog.tables import Blobs, TranscodedLayers
from dualreg.image.digest import Digest


@dataclass(frozen=True, slots=True)
class TranscodedQueries:
    """The gzip editions of layers; their rows go with either blob, and can be made again."""

    connection: Connection

    def find(self, sources: Collection[Digest]) -> dict[Digest, BlobRow]:
        """Return the gzip editions of those of *sources* that have one."""
        query = select(TranscodedLayers.source, TranscodedLayers.digest, Blobs.size)
        query = query.join(Blobs, Blobs.digest == TranscodedLayers.digest)
        return {
            row[0]: BlobRow(row[1], row[2])
            for batch in batches(sources)
            for row in self.connection.execute(query.where(TranscodedLayers.source.in_(batch)))
        }

    def record(self, source: Digest, digest: Digest, made_by: str) -> None:
        """Record the gzip edition of a layer, in place of an earlier one; both are blobs."""
        row = {"source": source, "digest": digest, "made_by": made_by}
        statement = insert(self.connection, TranscodedLayers).values(row)
        made = {"digest": digest, "made_by": made_by}
        self.connection.execute(statement.on_conflict_do_update(index_elements=["source"], set_=made))
