"""The time of the database, as it is counted on between two looks."""

import time
from datetime import datetime, timedelta

import pytest

from dualreg.catalog import clock
from dualreg.catalog.clock import FRESH, DatabaseClock, utc_now

AHEAD = timedelta(minutes=1)


class Ticks:
    """Counts seconds when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Count for all clocks."""
        self.seconds = 1000.0
        monkeypatch.setattr(clock, "ticks", lambda: self.seconds)

    def read(self, made: DatabaseClock, at: datetime, seconds: float) -> None:
        """Have a clock set by an answer that took some seconds."""
        began = self.seconds
        self.seconds += seconds
        made.set(at, began)


def test_it_goes_on_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is done to the clock of this machine; half the time of the answer has passed since then."""
    ticks, made, at = Ticks(monkeypatch), DatabaseClock(), utc_now() + AHEAD
    assert made() < at
    ticks.read(made, at, 0.5)
    monkeypatch.setattr(clock, "utc_now", lambda: at - timedelta(days=400))
    assert made() == at + timedelta(seconds=0.25)
    ticks.seconds += 30
    assert made() == at + timedelta(seconds=30.25)


def test_it_is_read_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one thread."""
    ticks, made = Ticks(monkeypatch), DatabaseClock()
    assert [made.is_due(), made.is_due()] == [True, False]
    ticks.read(made, utc_now(), 0.1)
    assert not made.is_due()
    ticks.seconds += FRESH
    assert [made.is_due(), made.is_due()] == [True, False]


def test_it_is_read_after_a_pause_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """During which nothing counted; only the clock of the machine was set then."""
    ticks, made, at = Ticks(monkeypatch), DatabaseClock(), utc_now()
    ticks.read(made, at, 0)
    assert not made.is_due()
    now = time.time()
    monkeypatch.setattr("dualreg.catalog.clock.time.time", lambda: now + 600)
    assert [made.is_due(), made.is_due()] == [True, False]


def test_an_answer_that_took_long_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Since this process may have been stopped before it read it; but it is better than nothing."""
    ticks, made, at = Ticks(monkeypatch), DatabaseClock(), utc_now()
    ticks.read(made, at, 600)
    assert made() == at + timedelta(seconds=300)
    assert [made.is_due(), made.is_due()] == [True, False]
    ticks.read(made, at + timedelta(hours=1), 600)
    assert made() == at + timedelta(seconds=900)
    ticks.read(made, at + timedelta(hours=1), 0)
    assert made() == at + timedelta(hours=1)
