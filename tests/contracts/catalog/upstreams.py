"""Upstreams: counters, and what is here of their images."""

from datetime import timedelta

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import KeptImage, UpstreamCount
from dualreg.image.manifest import parse
from dualreg.image.media_types import OCI_INDEX
from dualreg.image.names import RepositoryName, Tag
from tests.builders import image, index, layer
from tests.conftest import Clock
from tests.contracts.catalog.rows import IMAGE, MANIFEST, NAME, OTHER, push, record

URL, ANOTHER = "https://one.example", "https://two.example"


class UpstreamsContract:
    """Other registries."""

    def test_counts_add_up(self, catalog: Catalog) -> None:
        """Those of one upstream are one row."""
        for counts in ([UpstreamCount(URL, hits=1, bytes=1 << 40)], [UpstreamCount(ANOTHER, stale=1)]):
            with catalog.begin() as tx:
                tx.upstreams.count([*counts, UpstreamCount("https://zero.example", misses=2, errors=3)])
        with catalog.begin() as tx:
            tx.upstreams.count([UpstreamCount(URL, hits=2, bytes=1)])
        with catalog.read() as tx:
            assert tx.upstreams.counts() == (
                UpstreamCount(URL, hits=3, bytes=(1 << 40) + 1),
                UpstreamCount(ANOTHER, stale=1),
                UpstreamCount("https://zero.example", misses=4, errors=6),
            )

    def test_kept_images(self, catalog: Catalog, clock: Clock) -> None:
        """Those that no index has, by their last use; nothing of clients, or of another upstream."""
        tagged = image(layer({"tagged": b""}))
        listed = index(IMAGE, tagged)
        with catalog.begin() as tx:
            push(tx, RepositoryName("library/own"), "own")
            for name, url in ((NAME, URL), (OTHER, ANOTHER)):
                tx.repositories.record_upstream(tx.repositories.ensure(name).id, url)
            row = tx.repositories.ensure(NAME).id
            push(tx, OTHER, "1")
            push(tx, NAME)
            record(tx, row, parse(tagged.media_type, tagged.manifest), *tagged.blobs.values())
            tx.tags.point(row, [Tag("1"), Tag("2")], tagged.digest)
        clock.advance(timedelta(days=1))
        pulled = catalog.now()
        with catalog.begin() as tx:
            tx.tags.record_pulls({(NAME, Tag("1")): pulled})
        with catalog.read() as tx:
            assert tx.upstreams.kept(URL) == (
                KeptImage(NAME, tagged.digest, pulled),
                KeptImage(NAME, MANIFEST.digest, pulled - timedelta(days=1)),
            )
            assert [each.repository for each in tx.upstreams.kept(ANOTHER)] == [OTHER]
            assert {*tx.upstreams.children(URL)[NAME, MANIFEST.digest]} == {*IMAGE.blobs}
            assert {*tx.upstreams.sizes(URL)} == {
                *IMAGE.blobs, *tagged.blobs, MANIFEST.digest, tagged.digest
            }  # fmt: skip
        with catalog.begin() as tx:
            record(tx, row, parse(OCI_INDEX, listed))
            assert [each.digest for each in tx.upstreams.kept(URL)] == [parse(OCI_INDEX, listed).digest]
