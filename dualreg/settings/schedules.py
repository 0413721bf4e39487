"""Schedules: when work is due that is done every so often, or daily at a time, in a window."""

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Annotated

from pydantic import AfterValidator

from dualreg.settings.values import in_window, parse_duration

_TIME = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)
_DAY = timedelta(days=1)
#: By how much clocks may differ: what began later than that has not begun, but the clock was set back.
_DIFFERENCE = timedelta(minutes=5)


def parse_schedule(text: str) -> timedelta | time:
    """Return what a schedule such as ``6h`` or ``03:30`` means: every so often, or daily at that time.

    Raises:
        ValueError: it is malformed.
    """
    try:
        return time.fromisoformat(text) if _TIME.fullmatch(text) else parse_duration(text)
    except ValueError as error:
        raise ValueError("expected a duration such as 6h, or a time of day such as 03:30") from error


def next_run(
    schedule: str, last: datetime | None, now: datetime, *, since: datetime | None = None
) -> datetime | None:
    """Return when a rule is due; *now*, if that is over. None: it has no schedule.

    Args:
        last: When it was last begun; None: never. Aware, as *now* is, in whose zone times of day are. What is
            later than that by more than clocks differ is taken for never.
        since: From when on times of day count if it was never begun; None: from now on.
    """
    if not schedule:
        return None
    if last and last > now + _DIFFERENCE:
        last = None
    parsed = parse_schedule(schedule)
    if isinstance(parsed, timedelta):
        return now if last is None else max(last + parsed, now)
    after = (last or since or now).astimezone(now.tzinfo)
    today = datetime.combine(after.date(), parsed, now.tzinfo)
    return max(today if today > after else today + _DAY, now)


def _schedule(text: str) -> str:
    if text and parse_schedule(text) == timedelta(0):
        raise ValueError("expected 1s or more")
    return text


ScheduleText = Annotated[str, AfterValidator(_schedule)]


@dataclass(frozen=True, slots=True)
class Timing:
    """When a task is due.

    Attributes:
        schedule: As of ``parse_schedule``; empty: never.
        window: The times of day between which it may begin, as the setting ``gc_window``; empty: any.
    """

    schedule: str
    window: str = ""

    def next_start(
        self, last: datetime | None, now: datetime, *, is_unfinished: bool = False
    ) -> datetime | None:
        """Return when the task is to begin next; *now*, if that is over. None: it has no schedule.

        Args:
            last: When it last began; None: never. Aware, as *now* is, in whose zone times of day are.
            is_unfinished: Whether it was interrupted then, so that it is due at once.
        """
        at = next_run(self.schedule, last, now)
        return self._opening(now if is_unfinished else at.astimezone(now.tzinfo)) if at else None

    def _opening(self, at: datetime) -> datetime:
        """Return *at* if the window is open then; else when it opens next."""
        if in_window(self.window, at.time()):
            return at
        opens = datetime.combine(at.date(), time.fromisoformat(self.window.partition("-")[0]), at.tzinfo)
        return opens if opens > at else opens + _DAY
