"""Transcoded layers: which gzip edition a layer has."""

from datetime import timedelta

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import BlobRow, Lease
from dualreg.image.digest import Digest
from tests.conftest import Clock
from tests.contracts.catalog.rows import LEASE, NAME, link

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
            assert tx.transcoded.sources(MADE) == tuple(sorted([ONE, TWO]))
            tx.transcoded.forget(ONE, AGAIN)
            tx.blobs.unlink(repository, TWO)
            tx.blobs.release(TWO)
            assert tx.transcoded.find([ONE, TWO, THREE]).keys() == {ONE, THREE}
            tx.blobs.unlink(repository, MADE)
            tx.blobs.release(MADE)
            assert tx.transcoded.find([ONE, TWO, THREE]).keys() == {THREE}

    def test_leases_of_gzip_editions(self, catalog: Catalog, clock: Clock) -> None:
        """One process makes an edition; another one only when the lease has run out, or over it."""
        first, second, third = (Lease(name, f"process {name}") for name in ("1", "2", "3"))
        with catalog.begin() as tx:
            link(tx, tx.repositories.ensure(NAME).id, *BLOBS)
            assert tx.transcoded.held(ONE) is None
            assert tx.transcoded.lease(ONE, first, duration=LEASE)
            assert not tx.transcoded.lease(ONE, second, duration=LEASE)
            assert tx.transcoded.lease(TWO, second, duration=LEASE)
            assert (tx.transcoded.held(ONE), tx.transcoded.held(TWO)) == (first, second)
            assert tx.transcoded.find([ONE, TWO]) == {}
        clock.advance(LEASE * 0.9)
        with catalog.begin() as tx:
            assert tx.transcoded.renew(ONE, "1", duration=LEASE)
        clock.advance(LEASE * 0.9)
        with catalog.begin() as tx:
            assert (tx.transcoded.held(ONE), tx.transcoded.held(TWO)) == (first, None)
            assert tx.transcoded.lease(TWO, first, duration=LEASE)
            assert tx.transcoded.lease(ONE, third, duration=LEASE, over="1")
            assert not tx.transcoded.renew(ONE, "1", duration=LEASE)
            tx.transcoded.release(ONE, "1")
            assert tx.transcoded.held(ONE) == third
            tx.transcoded.release(ONE, "3")
            assert tx.transcoded.held(ONE) is None
        clock.advance(timedelta(days=-1))
        with catalog.begin() as tx:
            assert tx.transcoded.lease(TWO, second, duration=LEASE)
            tx.transcoded.record(TWO, MADE, "1")
            assert not tx.transcoded.lease(TWO, first, duration=LEASE)

    def test_unreadable_layers(self, catalog: Catalog) -> None:
        """Another version may be able to read them."""
        with catalog.begin() as tx:
            link(tx, tx.repositories.ensure(NAME).id, *BLOBS)
            tx.transcoded.lease(ONE, Lease("1", ""), duration=LEASE)
            tx.transcoded.record(ONE, None, "1")
            tx.transcoded.release(ONE, "1")
            assert tx.transcoded.unreadable([ONE, TWO], "1") == {ONE}
            assert tx.transcoded.unreadable([ONE, TWO], "2") == frozenset()
            assert tx.transcoded.lease(ONE, Lease("2", ""), duration=LEASE)
            tx.transcoded.release(ONE, "2")
            assert tx.transcoded.unreadable([ONE], "1") == {ONE}
