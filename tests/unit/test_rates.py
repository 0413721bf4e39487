"""Rates: how many requests a client may send, in any order of times, and in several processes."""

import os
import random

import pytest

from dualreg.errors import TooManyRequests
from dualreg.settings import Settings, SettingsInvalid
from dualreg.settings.values import parse_rate
from dualreg.web.rates import Rates


class Clock:
    """A clock that stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


def granted(rates: Rates, client: str, tries: int) -> int:
    """Return how many of so many requests are not refused."""
    count = 0
    for _ in range(tries):
        try:
            rates.take(client)
        except TooManyRequests:
            continue
        count += 1
    return count


def test_a_period_at_once_and_then_the_rate(clock: Clock) -> None:
    """Refused requests do not count; who waits as long as it is told is served; others are not affected."""
    rates = Rates(10, 60.0, clock)
    assert granted(rates, "a", 30) == 10
    assert granted(rates, "b", 3) == 3
    with pytest.raises(TooManyRequests) as refused:
        rates.take("a")
    assert refused.value.retry_after == 6
    clock.now += 5.9
    assert granted(rates, "a", 5) == 0
    clock.now += 0.1
    assert granted(rates, "a", 5) == 1
    clock.now += 30
    assert granted(rates, "a", 30) == 5
    clock.now += 600
    assert granted(rates, "a", 30) == 10
    assert granted(rates, "b", 30) == 10


@pytest.mark.parametrize(("count", "period"), [(1, 3600.0), (7, 60.0), (600, 60.0), (1000, 1.0)])
def test_exactly_a_period_at_once(clock: Clock, count: int, period: float) -> None:
    """Whatever time it is: sums of times are not rounded."""
    rates, chance = Rates(count, period, clock), random.Random(count)  # noqa: S311 -- to be repeatable
    found = set()
    for number in range(100):
        clock.now = chance.uniform(1e3, 1e7)
        found.add(granted(rates, f"{number}", count + 2))
    assert found == {count}


def test_ahead_by_more(clock: Clock) -> None:
    """Some requests may be ahead by a second period; all count together."""
    rates = Rates(10, 60.0, clock)
    assert granted(rates, "a", 12) == 10
    for _ in range(10):
        rates.take("a", periods=2)
    with pytest.raises(TooManyRequests) as refused:
        rates.take("a", periods=2)
    assert refused.value.retry_after == 6
    clock.now += 60
    assert granted(rates, "a", 1) == 0
    clock.now += 6
    assert granted(rates, "a", 2) == 1


def test_no_limit(clock: Clock) -> None:
    """Without one nothing is counted."""
    assert granted(Rates(0, 1.0, clock), "a", 1000) == 1000


def test_more_clients_than_are_known(clock: Clock) -> None:
    """The memory is bounded: a client is forgotten for others that send more."""
    rates = Rates(10, 60.0, clock, slots=8)
    assert granted(rates, "greedy", 10) == 10
    for number in range(1000):
        rates.take(f"other {number}")
    assert granted(rates, "greedy", 10) == 0
    for number in range(8):
        granted(rates, f"greedy {number}", 10)
        granted(rates, f"greedy {number}", 10)
    assert len(rates._halves) == 16


def test_processes_count_together() -> None:
    """What a forked process counts is known to the others."""
    rates = Rates(10, 3600.0)
    child = os.fork()
    if child == 0:
        os._exit(granted(rates, "a", 7))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert granted(rates, "a", 10) == 3


@pytest.mark.parametrize(
    ("text", "expected"), [("0", (0, 1.0)), ("10/s", (10, 1.0)), ("600/m", (600, 60.0)), ("1/h", (1, 3600.0))]
)
def test_the_setting(text: str, expected: tuple[int, float]) -> None:
    """A number in a second, minute or hour; 0 is no limit."""
    assert parse_rate(text) == expected
    assert Settings(request_limit=text).request_limit == text


@pytest.mark.parametrize("text", [" ", "10", "0/m", "1/d", "-1/s", "1.5/s", "10/min", "1 /s"])
def test_a_malformed_setting(text: str) -> None:
    """A rate that cannot be understood is an error that names the setting."""
    with pytest.raises(SettingsInvalid, match="request_limit"):
        Settings.from_env({"DUALREG_REQUEST_LIMIT": text})
