"""Transcoded layers: which gzip edition a layer has."""

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import BlobRow
from dualreg.image.digest import Digest
from tests.contracts.catalog.rows import NAME, link

BLOBS = [b"zstd 1", b"zstd 2", b"zstd 3", b"gzip", b"gzip again"]
ONE, TWO, THREE, MADE, AGAIN = map(Digest.of, BLOBS)


class TranscodedContract:
    """The gzip editions of layers."""

    def test_gzip_editions(self, catalog: Catalog) -> None:
        """Different layers may have the same one; a later one replaces it; a row goes with either blob."""
        with catalog.begin() as tx:
            link(tx, repository := tx.repositories.ensure(NAME).id, *BLOBS)
            for source in (ONE, TWO, THREE):
                tx.transcoded.record(source, MADE, "1")
            tx.transcoded.record(THREE, AGAIN, "2")
            expected = {ONE: BlobRow(MADE, 4), TWO: BlobRow(MADE, 4), THREE: BlobRow(AGAIN, 10)}
            assert tx.transcoded.find([ONE, TWO, THREE, MADE]) == expected
            tx.blobs.unlink(repository, TWO)
            tx.blobs.release(TWO)
            assert tx.transcoded.find([ONE, TWO, THREE]).keys() == {ONE, THREE}
            tx.blobs.unlink(repository, MADE)
            tx.blobs.release(MADE)
            assert tx.transcoded.find([ONE, TWO, THREE]).keys() == {THREE}
