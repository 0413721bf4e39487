"""Figures: how much there is."""

from datetime import timedelta

from sqlalchemy import update

from dualreg.catalog.database import Catalog
from dualreg.catalog.figures import Amount, FigureQueries, generation_of
from dualreg.catalog.overview import size_of
from dualreg.catalog.rows import ClientRow
from dualreg.catalog.tables import Blobs, RepositoryBlobs
from dualreg.image.editions import Edition
from dualreg.image.names import Tag
from dualreg.image.platform import Platform
from dualreg.image.schema1 import kind_for
from tests.conftest import Clock
from tests.contracts.catalog.rows import IMAGE, MANIFEST, NAME, OTHER, push

#: Versions as they are recorded, and what they count as.
GENERATIONS = {
    "docker/0.6.0": "docker 0.x",
    "docker/0.12.0": "docker 0.x",
    "docker/1.0.1": "docker 1.0-1.5",
    "docker/1.5.0": "docker 1.0-1.5",
    "docker/1.6.2": "docker 1.6-1.9",
    "docker/1.9.1": "docker 1.6-1.9",
    "docker/1.10.3": "docker 1.10+",
    "docker/17.05.0-ce": "docker 1.10+",
    "docker/": "other",
    "docker/1.9999": "docker 1.10+",
    "others": "other",
    "curl": "other",
}


class FiguresContract:
    """How much there is."""

    def test_blobs_are_of_one_kind_each(self, catalog: Catalog) -> None:
        """However many repositories have them; a condemned one is nothing else."""
        sizes = {digest: len(data) for digest, data in IMAGE.blobs.items()}
        with catalog.begin() as tx:
            figures = FigureQueries(tx.connection, tx.now)
            assert {*figures.blobs().values()} == {Amount(0, 0)}
            assert figures.uploads() == Amount(0, 0)
            push(tx, NAME, "1")
            push(tx, OTHER, "1")
            found = figures.blobs()
            assert found.keys() == {"content", "manifest", "transcoded", "deleted", "condemned"}
            assert found["manifest"].number == 1
            assert found["content"] == Amount(len(sizes), sum(sizes.values()))
            assert figures.rows() == {"repositories": 2, "tags": 2, "manifests": 2, "v1_images": 0}
            gone = min(sizes)
            tx.connection.execute(update(Blobs).values(condemned_at=tx.now).where(Blobs.digest == gone))
            tx.connection.execute(update(RepositoryBlobs).values(candidate_since=tx.now))
            assert figures.blobs()["condemned"] == Amount(1, sizes[gone])
            assert figures.candidates() == 2 * (len(sizes) + 1)
            assert size_of(catalog, tx.connection) > 0

    def test_editions_are_of_few_kinds(self, catalog: Catalog) -> None:
        """Those of which there is one for each tag, or for each platform, are counted together."""
        kinds = {kind_for(Tag(f"t{number}")) for number in range(3)}
        kinds |= {Edition.GZIP.kind_for(Platform("linux", each)) for each in ("amd64", "arm64")}
        with catalog.begin() as tx:
            repository_id = push(tx)
            for kind in (*kinds, Edition.GZIP.kind):
                tx.views.record(repository_id, MANIFEST.digest, str(MANIFEST.digest), kind=kind)
            found = FigureQueries(tx.connection, tx.now).editions()
        assert found == {"schema1": 3, "platform": 2, "gzip-r1": 1}
        assert {Edition.common_kind(kind) for kind in (*kinds, Edition.GZIP.kind)} == found.keys()

    def test_clients_by_generation(self, catalog: Catalog, clock: Clock) -> None:
        """Those of the last thirty days, each address once for a version, whatever it pulled."""
        with catalog.begin() as tx:
            for number, version in enumerate(GENERATIONS):
                for name in ("a", "b"):
                    seen = ClientRow(f"10.0.0.{number}", version, name, tx.now, tx.now, 1, 0)
                    tx.clients.record([seen])
            found = FigureQueries(tx.connection, tx.now).v1_clients()
        expected = dict.fromkeys(GENERATIONS.values(), 0)
        for version, generation in GENERATIONS.items():
            assert generation_of(version) == generation
            expected[generation] += 1
        assert found == expected
        clock.advance(timedelta(days=31))
        with catalog.read() as tx:
            assert {*FigureQueries(tx.connection, catalog.now()).v1_clients().values()} == {0}
