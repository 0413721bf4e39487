"""Growth: how much was pulled, pushed and stored by day.

What clients pull and push is counted as it is noted when tags were pulled (``registry.activity``). What is
stored is looked at once a day, since that reads whole tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from dualreg.catalog.database import Catalog
from dualreg.catalog.growth import DayRow, GrowthQueries, Stored

#: For how many days all of it is kept.
KEPT = 731
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Growth:
    """Notes what is stored, and knows that of the days before."""

    catalog: Catalog

    def note(self) -> Stored:
        """Note what is stored today, and forget what was long ago; this reads whole tables."""
        with self.catalog.read() as tx:
            stored = GrowthQueries(tx.connection, tx.now).look()
        with self.catalog.begin() as tx:
            queries = GrowthQueries(tx.connection, tx.now)
            queries.note(stored)
            queries.forget(tx.now.date() - (KEPT - 1) * _DAY)
        return stored

    def days(self, number: int) -> Sequence[DayRow]:
        """Return the last days, up to *number* of them, without a gap and with today.

        They begin with the first one of which anything is known.
        """
        with self.catalog.read() as tx:
            today, queries = tx.now.date(), GrowthQueries(tx.connection, tx.now)
            begin = today - (number - 1) * _DAY
            known = {row.day: row for row in queries.list(begin)}
            first = max(begin, min(queries.first() or today, today))
        days = (f"{first + past * _DAY}" for past in range((today - first).days + 1))
        return [known.get(day) or DayRow(day) for day in days]
