"""SQL of growth: what was pulled and pushed by day, and what was stored then."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.figures import FigureQueries, count_rows
from dualreg.catalog.tables import DailyFigures

#: What is counted of a day.
_COUNTED = ("pulls", "pushes")


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored at an instant. All but the first three are bytes of blobs, each of one kind.

    Attributes:
        blobs: How many there were.
        content_bytes: Layers, configs and other documents that were pushed.
        manifest_bytes: Manifests.
        transcoded_bytes: The gzip editions of layers.
        deleted_bytes: What no repository had, and could be restored.
        condemned_bytes: What no repository had, and collections of garbage would delete.
    """

    repositories: int
    tags: int
    blobs: int
    content_bytes: int
    manifest_bytes: int
    transcoded_bytes: int
    deleted_bytes: int
    condemned_bytes: int

    @property
    def bytes(self) -> int:
        """All bytes of blobs."""
        linked = self.content_bytes + self.manifest_bytes + self.transcoded_bytes
        return linked + self.deleted_bytes + self.condemned_bytes


@dataclass(frozen=True, slots=True)
class DayRow:
    """A day in UTC.

    Attributes:
        day: Such as 2026-01-31.
        pulls: How many images and artifacts clients pulled; one for several platforms counts once.
        pushes: How many tags clients pushed.
        noted_at: When it was last noted on that day what was stored; null: it was not.
        stored: What was stored then.
    """

    day: str
    pulls: int = 0
    pushes: int = 0
    noted_at: datetime | None = None
    stored: Stored | None = None


@dataclass(frozen=True, slots=True)
class GrowthQueries:
    """What was pulled, pushed and stored by day."""

    connection: Connection
    now: datetime

    def count(self, pulls: Mapping[date, int], pushes: Mapping[date, int]) -> None:
        """Add to the pulls and pushes of days."""
        row = insert(self.connection, DailyFigures)
        added = {name: getattr(DailyFigures, name) + row.excluded[name] for name in _COUNTED}
        statement = row.on_conflict_do_update(index_elements=[DailyFigures.day], set_=added)
        # In a fixed order, so that concurrent transactions cannot deadlock.
        rows = [
            {"day": day.isoformat(), "pulls": pulls.get(day, 0), "pushes": pushes.get(day, 0)}
            for day in sorted({*pulls, *pushes})
        ]
        if rows:
            self.connection.execute(statement, rows)

    def look(self) -> Stored:
        """Return what is stored now; this reads whole tables."""
        rows = count_rows(self.connection, "repositories", "tags")
        kinds = FigureQueries(self.connection, self.now).blobs()
        sizes = {f"{kind}_bytes": amount.bytes for kind, amount in kinds.items()}
        return Stored(**rows, blobs=sum(amount.number for amount in kinds.values()), **sizes)

    def note(self, stored: Stored) -> None:
        """Record what is stored today, in place of what was noted before."""
        values: dict[str, Any] = {"noted_at": self.now, **asdict(stored)}
        day, counted = self.now.date().isoformat(), dict.fromkeys(_COUNTED, 0)
        row = insert(self.connection, DailyFigures).values(day=day, **counted, **values)
        self.connection.execute(row.on_conflict_do_update(index_elements=[DailyFigures.day], set_=values))

    def forget(self, before: date) -> None:
        """Delete the days before *before*."""
        self.connection.execute(delete(DailyFigures).where(DailyFigures.day < before.isoformat()))

    def first(self) -> date | None:
        """Return the first day of which anything is known; None: there is none."""
        day = self.connection.scalar(select(func.min(DailyFigures.day)))
        return None if day is None else date.fromisoformat(day)

    def list(self, since: date) -> Sequence[DayRow]:
        """Return the days from *since* on of which anything is known, in order."""
        query = select(DailyFigures.__table__).where(DailyFigures.day >= since.isoformat())
        return [_day(**row._asdict()) for row in self.connection.execute(query.order_by(DailyFigures.day))]


def _day(day: str, pulls: int, pushes: int, noted_at: datetime | None, **stored: int) -> DayRow:
    return DayRow(day, pulls, pushes, noted_at, Stored(**stored) if noted_at else None)
