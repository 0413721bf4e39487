"""SQL of blobs, and of the links that let a repository read them."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, exists, select

from dualreg.catalog.dialects import batches, insert, within
from dualreg.catalog.rows import BlobRow
from dualreg.catalog.tables import Blobs, ManifestChildren, Manifests, Repositories, RepositoryBlobs, V1Images
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.image.reach import Reach

#: Rows that are named to a client as the reason why something stays: a base layer may have a million.
NAMED = 100


@dataclass(frozen=True, slots=True)
class BlobQueries:
    """Which bytes are in the store, and which repository may read them."""

    connection: Connection
    now: datetime

    def claim(self, digest: Digest, size: int) -> int:
        """Record the blob, or revive it if it was condemned, and return its size in bytes as first recorded.

        Holds the blob's row lock until the transaction ends, so that nobody deletes the bytes meanwhile.
        """
        row = insert(self.connection, Blobs).values(
            digest=digest, size=size, created_at=self.now, verified_at=self.now
        )
        statement = row.on_conflict_do_update(index_elements=[Blobs.digest], set_={"condemned_at": None})
        return self.connection.execute(statement.returning(Blobs.size)).scalar_one()  # type: ignore[no-any-return]  # see insert

    def link(self, repository_id: int, digest: Digest) -> None:
        """Let the repository read the blob, as of now."""
        row = insert(self.connection, RepositoryBlobs).values(
            repository_id=repository_id, digest=digest, linked_at=self.now
        )
        columns = [RepositoryBlobs.repository_id, RepositoryBlobs.digest]
        self.connection.execute(
            row.on_conflict_do_update(index_elements=columns, set_={"linked_at": self.now})
        )

    def unlink(self, repository_id: int, *digests: Digest) -> tuple[Digest, ...]:
        """Take the blobs from the repository, but for what something of it names; return those that went."""
        link = (RepositoryBlobs.repository_id == repository_id) & RepositoryBlobs.digest.in_(digests)
        unused = delete(RepositoryBlobs).where(link, *(~use for use in _uses()))
        return tuple(self.connection.scalars(unused.returning(RepositoryBlobs.digest)))

    def release(self, digest: Digest) -> bool:
        """Forget the blob if no repository may read it; tell whether it was forgotten.

        The caller takes the bytes away in the same transaction, under the lock that this holds.
        """
        unused = ~exists().where(RepositoryBlobs.digest == Blobs.digest)
        return self.connection.execute(delete(Blobs).where(Blobs.digest == digest, unused)).rowcount > 0

    def lock(self, repository_id: int, digest: Digest) -> bool:
        """Keep everybody from naming the blob until the transaction ends; tell whether it is there."""
        link = (RepositoryBlobs.repository_id == repository_id) & (RepositoryBlobs.digest == digest)
        query = select(RepositoryBlobs.digest).where(link).with_for_update()
        return self.connection.scalar(query) is not None

    def owner(self, digest: Digest, reach: Reach) -> RepositoryName | None:
        """Return a repository of *reach* that may read the blob."""
        query = select(Repositories.name).join(
            RepositoryBlobs, RepositoryBlobs.repository_id == Repositories.id
        )
        query = query.where(RepositoryBlobs.digest == digest, within(Repositories.name, reach)).limit(1)
        name = self.connection.scalar(query)
        return None if name is None else RepositoryName(name)

    def find(self, repository: RepositoryName, digest: Digest) -> BlobRow | None:
        """Return the blob if the repository may read it."""
        size = self.connection.scalar(_readable(), {"repository": repository, "digest": digest})
        return None if size is None else BlobRow(digest, size)

    def linked(self, repository_id: int, digests: Collection[Digest]) -> dict[Digest, int]:
        """Return those of *digests* that the repository may read, with their sizes in bytes."""
        query = (
            select(Blobs.digest, Blobs.size)
            .join(RepositoryBlobs, RepositoryBlobs.digest == Blobs.digest)
            .where(RepositoryBlobs.repository_id == repository_id)
            .with_for_update(read=True, key_share=True, of=RepositoryBlobs)
        )
        return {
            row.digest: row.size
            for batch in batches(digests)
            for row in self.connection.execute(query.where(Blobs.digest.in_(batch)))
        }

    def referrers(self, repository_id: int, digest: Digest) -> tuple[str, ...]:
        """Return some of what names the blob in the repository: digests of manifests, then V1 image ids."""
        manifests = select(ManifestChildren.manifest).where(
            ManifestChildren.repository_id == repository_id, ManifestChildren.child == digest
        )
        images = select(V1Images.image_id).where(
            V1Images.repository_id == repository_id, (V1Images.layer == digest) | (V1Images.json == digest)
        )
        found = [row for query in (manifests, images) for row in self.connection.scalars(query.limit(NAMED))]
        return tuple(dict.fromkeys(map(str, found)))


@cache
def _readable() -> Select[int]:
    """Build the statement once: that costs more than running it, and every blob request begins with it."""
    return (
        select(Blobs.size)
        .join(RepositoryBlobs, RepositoryBlobs.digest == Blobs.digest)
        .join(Repositories, Repositories.id == RepositoryBlobs.repository_id)
        .where(Repositories.name == bindparam("repository"), Blobs.digest == bindparam("digest"))
    )


def _uses() -> tuple[ColumnElement[bool], ...]:
    """Return one condition per table that can name a RepositoryBlobs row."""
    here = RepositoryBlobs
    return (
        exists().where(Manifests.repository_id == here.repository_id, Manifests.digest == here.digest),
        exists().where(
            ManifestChildren.repository_id == here.repository_id, ManifestChildren.child == here.digest
        ),
        exists().where(V1Images.repository_id == here.repository_id, V1Images.json == here.digest),
        exists().where(V1Images.repository_id == here.repository_id, V1Images.layer == here.digest),
    )
