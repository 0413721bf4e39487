"""State: the catalog, the store and the link files.

And the one way in which verified bytes enter all three.
"""

from dataclasses import dataclass

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.rows import BlobRow, RepositoryRow
from dualreg.errors import BlobDamaged
from dualreg.image.names import UploadId
from dualreg.storage.base import BlobStore
from dualreg.storage.links import Links


@dataclass(frozen=True, slots=True)
class State:
    """Where a registry keeps what it knows: every service works on the same one."""

    catalog: Catalog
    store: BlobStore
    links: Links

    def admit(self, tx: Transaction, repository: RepositoryRow, upload: UploadId, blob: BlobRow) -> None:
        """Publish the staged *upload* as *blob* and let the repository read it.

        The caller has verified the bytes. The row lock of ``claim`` orders this against everything else that
        happens to the same digest; publishing is a rename, so the transaction stays short.

        Raises:
            BlobDamaged: the catalog knows these bytes with another size.
        """
        recorded = tx.blobs.claim(blob.digest, blob.size)
        if recorded != blob.size:
            raise BlobDamaged(f"{blob.digest}: {recorded} bytes recorded, {blob.size} verified")
        self.store.publish(upload, blob.digest)
        tx.blobs.link(repository.id, blob.digest)
        self.links.add_blob(repository.name, blob.digest)
