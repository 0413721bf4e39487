"""When tasks are due, by any clock."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualreg.settings.schedules import Timing
from dualreg.settings.values import in_window

ZONE = timezone(timedelta(hours=2))
NOON = datetime(2026, 1, 1, 12, tzinfo=ZONE)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("timing", "last", "expected"),
    [
        (Timing(""), None, None),
        (Timing(""), NOON - DAY, None),
        (Timing("2h"), None, NOON),
        (Timing("2h"), NOON - HOUR, NOON + HOUR),
        (Timing("2h"), NOON - 3 * HOUR, NOON),
        (Timing("2h"), NOON + timedelta(minutes=4), NOON + 2 * HOUR + timedelta(minutes=4)),
        (Timing("2h"), NOON + DAY, NOON),
        (Timing("13:00"), None, NOON + HOUR),
        (Timing("11:00"), None, NOON + DAY - HOUR),
        (Timing("11:00"), NOON - HOUR, NOON + DAY - HOUR),
        (Timing("11:00"), NOON - 2 * HOUR, NOON),
        (Timing("11:00"), NOON - 9 * DAY, NOON),
        (Timing("11:00"), NOON + 400 * DAY, NOON + DAY - HOUR),
        (Timing("2h", "14:00-15:00"), None, NOON + 2 * HOUR),
        (Timing("2h", "10:00-11:00"), None, NOON + DAY - 2 * HOUR),
        (Timing("2h", "22:00-04:00"), NOON - 9 * HOUR, NOON + 10 * HOUR),
        (Timing("2h", "11:00-13:00"), NOON - HOUR, NOON + DAY - HOUR),
        (Timing("2h", "11:00-13:30"), NOON - HOUR, NOON + HOUR),
    ],
)
def test_when_a_task_is_due(timing: Timing, last: datetime | None, expected: datetime | None) -> None:
    """An interval after it began, or at the time of day; what was missed is due now, or in the window."""
    assert timing.next_start(last, NOON) == expected
    if last:
        assert timing.next_start(last.astimezone(UTC), NOON) == expected


def test_what_was_interrupted_is_due_at_once() -> None:
    """In its window; and never without a schedule."""
    last = NOON - timedelta(minutes=1)
    assert Timing("2h").next_start(last, NOON, is_unfinished=True) == NOON
    assert Timing("2h", "14:00-15:00").next_start(last, NOON, is_unfinished=True) == NOON + 2 * HOUR
    assert Timing("").next_start(last, NOON, is_unfinished=True) is None


TIMES = st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 9), timezones=st.just(ZONE))  # noqa: DTZ001 -- the zone follows
CLOCKS = st.integers(0, 23).map(lambda hour: f"{hour:02}:00")
WINDOWS = st.just("") | st.tuples(CLOCKS, CLOCKS).map("-".join)


@pytest.mark.slow
@given(CLOCKS | st.sampled_from(["30m", "6h", "3d"]), WINDOWS, TIMES, TIMES)
def test_a_task_is_due_in_its_window_and_not_in_the_past(
    schedule: str, window: str, last: datetime, now: datetime
) -> None:
    """Whatever the clocks say; and at that time it is due then."""
    timing = Timing(schedule, window)
    due = timing.next_start(last, now)
    assert due is not None
    assert due >= now
    assert in_window(window, due.time())
    if last < now:
        assert timing.next_start(last, due) == due
