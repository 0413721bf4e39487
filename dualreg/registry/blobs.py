"""Blobs: bytes that a repository may read."""

from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobInUse, BlobUnknown
from dualreg.image.digest import Digest
from dualreg.image.layer import EMPTY_LAYER, empty_layer
from dualreg.image.names import RepositoryName
from dualreg.image.reach import EVERYWHERE, Reach
from dualreg.registry.state import State
from dualreg.storage.base import SupportsAccelRedirect


@dataclass(frozen=True, slots=True)
class Blobs:
    """The rules of blobs. A blob in the store is nobody's; a repository reads it only through its link."""

    state: State

    def stat(self, repository: RepositoryName, digest: Digest) -> BlobRow:
        """Return the blob's size.

        The empty layer is in every repository, pushed or not: schema 1 made for old clients names it.

        Raises:
            BlobUnknown: this repository may not read it, whoever else may.
        """
        with self.state.catalog.read() as tx:
            blob = tx.blobs.find(repository, digest)
        if blob is None and digest == empty_layer().digest:
            return BlobRow(digest, len(EMPTY_LAYER))
        if blob is None:
            raise BlobUnknown(digest=str(digest))
        return blob

    def open(self, digest: Digest, *, start: int = 0) -> BinaryIO:
        """Return a reader of the bytes from *start* on; the caller has checked the link (``stat``).

        Raises:
            BlobMissing: the catalog promised bytes that are not there.
        """
        if digest == empty_layer().digest:
            return BytesIO(EMPTY_LAYER[start:])
        return self.state.store.open(digest, start=start)

    def internal_path(self, digest: Digest) -> str | None:
        """Return where a front server finds the bytes itself; None if the store keeps no such files."""
        store = self.state.store
        if digest == empty_layer().digest:
            return None  # it need not be a file
        return store.internal_path(digest) if isinstance(store, SupportsAccelRedirect) else None

    def mount(
        self,
        repository: RepositoryName,
        digest: Digest,
        source: RepositoryName | None,
        *,
        reach: Reach = EVERYWHERE,
    ) -> bool:
        """Let *repository* read a blob of *source* (None: of any repository) too; tell whether it is there.

        Args:
            reach: Which repositories the client may read. In any other, nothing is there: the answer must not
                betray what they hold.

        Source: OCI distribution-spec v1.1, "Mounting a blob from another repository".
        """
        with self.state.catalog.begin() as tx:
            owner = source or tx.blobs.owner(digest, reach)
            if owner is None or not reach.covers(owner):
                return False
            blob = tx.blobs.find(owner, digest)
            if blob is None:
                return False
            target = tx.repositories.ensure(repository)
            self.state.share(tx, target, blob)
        return True

    def delete(self, repository: RepositoryName, digest: Digest) -> None:
        """Take the blob from the repository; the bytes go when nobody has them any more.

        Raises:
            BlobUnknown, BlobInUse.
        """
        with self.state.catalog.begin() as tx:
            row = tx.repositories.lock(repository)
            if row is None or not tx.blobs.lock(row.id, digest):
                raise BlobUnknown(digest=str(digest))
            if not tx.blobs.unlink(row.id, digest):
                referrers = tx.blobs.referrers(row.id, digest)
                raise BlobInUse(digest=str(digest), referrers=[*referrers])
            self.state.links.remove_blob(repository, digest)
