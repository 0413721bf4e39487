"""Dates: tags chosen by them; and when images say they were made, where nothing tells of pushes."""

from collections.abc import Sequence
from datetime import UTC, datetime

from dualreg.migrate.sources.base import SourceTag

#: Nothing was made before Docker was there: builders that leave the date out write 1970, 1980 or the year 1.
_BEGINNING = datetime(2013, 1, 1, tzinfo=UTC)


def made(stated: object) -> datetime | None:
    """Return the moment that ``created`` states, in UTC; None if it states none."""
    if not isinstance(stated, str):
        return None
    try:
        moment = datetime.fromisoformat(stated)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return moment if moment >= _BEGINNING else None


def newest(tags: Sequence[SourceTag], since: datetime | None, latest: int | None) -> list[SourceTag]:
    """Return the tags from *since* on, of these the *latest*; and those without a date, to be refused."""
    dated = [(tag.updated, tag) for tag in tags if tag.updated]
    chosen = [each for each in dated if since is None or each[0] >= since]
    chosen.sort(key=lambda each: (each[0], each[1].tag), reverse=True)
    return [tag for _, tag in chosen[:latest]] + [tag for tag in tags if not tag.updated]
