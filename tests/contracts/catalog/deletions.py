"""Tags and repositories that were deleted on purpose."""

from datetime import timedelta

from dualreg.catalog.database import Catalog
from dualreg.image.names import Tag
from tests.conftest import Clock
from tests.contracts.catalog.rows import MANIFEST, NAME, OTHER


class DeletionsContract:
    """Tags and repositories that were deleted on purpose."""

    def test_what_was_forgotten(self, catalog: Catalog, clock: Clock) -> None:
        """Each with the time of its last deletion, whether the repository is there or not."""
        digest = MANIFEST.digest
        with catalog.begin() as tx:
            tx.deletions.record(NAME, [Tag("1"), Tag("2"), Tag("1"), digest])
            tx.deletions.record(OTHER, [])
        first = clock()
        clock.advance(timedelta(hours=1))
        with catalog.begin() as tx:
            tx.deletions.record(NAME, [Tag("2")])
        with catalog.read() as tx:
            assert tx.deletions.of(NAME).times == {"1": first, "2": clock(), str(digest): first}
            assert tx.deletions.of(OTHER).times == {}
            for wanted, at in (("1", first), ("2", clock()), ("3", None), (str(digest), first)):
                assert tx.deletions.last(NAME, wanted) == tx.deletions.of(NAME).last(wanted) == at
            assert (
                tx.deletions.last(NAME, "1", digest, "2") == tx.deletions.of(NAME).last("1", "2") == clock()
            )

    def test_whole_repositories_are_forgotten(self, catalog: Catalog, clock: Clock) -> None:
        """With everything that is in them, and nothing that is deleted later."""
        with catalog.begin() as tx:
            tx.deletions.record(NAME, [Tag("1")])
            tx.deletions.record(OTHER, [Tag("1")])
        before = clock()
        clock.advance(timedelta(hours=1))
        with catalog.begin() as tx:
            tx.deletions.record_repository(NAME)
        whole = clock()
        clock.advance(timedelta(hours=1))
        with catalog.begin() as tx:
            tx.deletions.record(NAME, [Tag("2")])
        with catalog.read() as tx:
            for wanted, at in (("1", whole), ("2", clock()), ("3", whole)):
                assert tx.deletions.last(NAME, wanted) == tx.deletions.of(NAME).last(wanted) == at
            assert [tx.deletions.last(OTHER, tag) for tag in ("1", "2")] == [before, None]
