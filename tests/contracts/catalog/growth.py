"""Growth: what was pulled, pushed and stored by day."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.growth import DayRow, GrowthQueries, Stored
from tests.conftest import Clock
from tests.contracts.catalog.rows import IMAGE, MANIFEST, NAME, OTHER, push

DAY = timedelta(days=1)


def _growth(tx: Transaction) -> GrowthQueries:
    return GrowthQueries(tx.connection, tx.now)


class GrowthContract:
    """What was pulled, pushed and stored by day."""

    def test_days_are_one_row_each(self, catalog: Catalog, clock: Clock) -> None:
        """Counts add up, whoever adds them; what is stored is that of the last note of the day."""
        today = clock.instant.date()
        with catalog.begin() as tx:
            assert _growth(tx).first() is None
            _growth(tx).count({today: 2, today - DAY: 5}, {today: 1})
            assert _growth(tx).first() == today - DAY
            _growth(tx).count({}, {})
        with catalog.begin() as tx:
            _growth(tx).count({today: 3}, {today - DAY: 4})
            push(tx, NAME, "1", "2")
            push(tx, OTHER, "1")
            stored = _growth(tx).look()
            _growth(tx).note(stored)
        content = sum(map(len, IMAGE.blobs.values()))
        assert stored == Stored(2, 3, len(IMAGE.blobs) + 1, content, len(MANIFEST.payload), 0, 0, 0)
        assert stored.bytes == content + len(MANIFEST.payload)
        before = DayRow(f"{today - DAY}", 5, 4)
        with catalog.read() as tx:
            assert _growth(tx).list(today - DAY) == [before, DayRow(f"{today}", 5, 1, clock.instant, stored)]
        clock.advance(timedelta(hours=1))
        with catalog.begin() as tx:
            _growth(tx).note(replace(stored, tags=9))
            _growth(tx).count({today: 1}, {})
        noted = DayRow(f"{today}", 6, 1, clock.instant, replace(stored, tags=9))
        clock.advance(DAY)
        with catalog.begin() as tx:
            _growth(tx).note(stored)
            assert _growth(tx).list(today) == [noted, DayRow(f"{today + DAY}", 0, 0, clock.instant, stored)]
            _growth(tx).forget(today)
            assert [row.day for row in _growth(tx).list(today - DAY)] == [f"{today}", f"{today + DAY}"]

    def test_processes_count_at_once(self, catalog: Catalog, clock: Clock) -> None:
        """None of their counts is lost, none waits for another for ever, whichever days they count."""
        today, writers, times = clock.instant.date(), 4, 10

        def count(_: int) -> None:
            for _ in range(times):
                with catalog.begin() as tx:
                    _growth(tx).count({today: 1}, {today - DAY: 1, today: 2})

        with ThreadPoolExecutor(writers) as pool:
            assert [*pool.map(count, range(writers))] == [None] * writers
        with catalog.read() as tx:
            counts = [(row.pulls, row.pushes) for row in _growth(tx).list(today - DAY)]
        assert counts == [(0, writers * times), (writers * times, 2 * writers * times)]
