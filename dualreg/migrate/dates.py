"""Dates of tags: selection by date, and the dates that images state."""

from collections.abc import Sequence
from datetime import UTC, datetime

from dualreg.migrate.sources.base import SourceTag

#: No image is older than Docker: builders that leave the date out write 1970, 1980 or the year 1.
_FIRST_IMAGE = datetime(2013, 1, 1, tzinfo=UTC)


def parse_created(stated: object) -> datetime | None:
    """Return the moment that a ``created`` field states, in UTC; None if it states no plausible one."""
    if not isinstance(stated, str):
        return None
    try:
        moment = datetime.fromisoformat(stated)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return moment if moment >= _FIRST_IMAGE else None


def newest(tags: Sequence[SourceTag], since: datetime | None, latest: int | None) -> list[SourceTag]:
    """Return the *latest* tags that were pushed at *since* or later, and all tags without a date.

    Tags without a date are refused later, with a reason.

    Args:
        since: None: at any time.
        latest: How many; None: all.
    """
    dated = [(tag.updated, tag) for tag in tags if tag.updated]
    chosen = [each for each in dated if since is None or each[0] >= since]
    chosen.sort(key=lambda each: (each[0], each[1].tag), reverse=True)
    return [tag for _, tag in chosen[:latest]] + [tag for tag in tags if not tag.updated]
