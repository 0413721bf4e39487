"""Rebuilding: content is recorded in batches of any size."""

import pytest

from dualreg.catalog.database import Catalog
from dualreg.catalog.rebuilding import FoundBlob
from dualreg.image.digest import Digest
from tests.contracts.catalog.rows import CONFIG, LOWER, NAME

#: More digests than PostgreSQL takes values in a statement (65,535).
MANY = 70_000


class RebuildingContract:
    """What a rebuild records."""

    @pytest.mark.slow
    def test_links_of_many_blobs(self, catalog: Catalog) -> None:
        """A few manifests may name more blobs than fit into a statement; those not recorded are returned."""
        lost = {Digest.of(b"%d" % number) for number in range(MANY)}
        with catalog.begin() as tx:
            tx.rebuild.add_blobs(FoundBlob(digest, 1, tx.now) for digest in (CONFIG, LOWER))
            place = tx.rebuild.repository(NAME, tx.now)
            assert tx.rebuild.link(place, dict.fromkeys((CONFIG, *lost, LOWER), tx.now)) == lost
            assert tx.blobs.linked(place, [CONFIG, LOWER, *lost]) == {CONFIG: 1, LOWER: 1}
