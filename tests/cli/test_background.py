"""When the server collects garbage."""

from datetime import datetime, time

import pytest

from dualreg.cli.background import Schedule, child_environment
from dualreg.settings import Settings

HOUR, DAY = 3600.0, 86400.0
#: Midnight, by the clock of this machine.
MIDNIGHT = datetime(2026, 1, 1).astimezone().timestamp()


class Clocks:
    """A clock that runs evenly, and one that can be set."""

    def __init__(self) -> None:
        """Start at midnight."""
        self.seconds, self.set_by = 0.0, 0.0

    def schedule(self, interval: float = HOUR, window: str = "") -> Schedule:
        """Return a schedule by these clocks, with a grace of a day."""
        return Schedule(interval, DAY, window, monotonic=lambda: self.seconds, wall=self.wall)

    def wall(self) -> float:
        """Return the time of day."""
        return MIDNIGHT + self.seconds + self.set_by

    def due(self, schedule: Schedule, hours: int) -> list[int]:
        """Return in which minutes of some *hours* a collection was due."""
        begun, found = self.seconds, []
        for minute in range(hours * 60):
            self.seconds = begun + minute * 60 + 0.5
            schedule.has_jumped()
            if schedule.is_due():
                found.append(minute)
        return found


def test_collections_are_due_every_interval() -> None:
    """The first one soon after the start; with an interval of 0, none."""
    clocks = Clocks()
    assert clocks.due(clocks.schedule(), 3) == [1, 61, 121]
    assert clocks.due(clocks.schedule(0), 3) == []


@pytest.mark.parametrize(
    ("window", "expected"),
    [("02:00-04:00", {2, 3}), ("22:00-04:00", {0, 1, 2, 3, 22, 23}), ("03:00-03:00", {*range(24)})],
)
def test_collections_are_due_in_the_window(window: str, expected: set[int]) -> None:
    """Which may span midnight, or a whole day."""
    clocks = Clocks()
    assert {minute // 60 for minute in clocks.due(clocks.schedule(window=window), 24)} == expected


@pytest.mark.parametrize(("seconds", "jumps"), [(DAY, True), (10, False), (-DAY, False)])
def test_no_collection_follows_a_clock_that_was_set_forward(seconds: float, *, jumps: bool) -> None:
    """What clients were told of a moment ago would be old; a correction of seconds does not matter."""
    clocks = Clocks()
    schedule = clocks.schedule()
    assert clocks.due(schedule, 1) == [1]
    clocks.set_by = seconds
    assert schedule.has_jumped() is jumps
    assert bool(clocks.due(schedule, 24)) is not jumps
    assert clocks.due(schedule, 2)


def test_a_time_of_day_comes_once_a_day() -> None:
    """Beside the looks for what was missed; not within the grace after the clock was set forward."""
    clocks = Clocks()
    schedule = Schedule(HOUR, DAY, "", at=time(3, 30), monotonic=lambda: clocks.seconds, wall=clocks.wall)
    assert clocks.due(schedule, 24)[:6] == [1, 61, 121, 181, 210, 270]
    clocks.set_by = DAY
    assert clocks.due(schedule, 24) == []
    assert clocks.due(schedule, 24)[:6] == [1, 61, 121, 181, 212, 272]  # two minutes less passed than that


def test_a_collection_knows_how_long_images_of_upstreams_stay() -> None:
    """It is given all options of the upstreams, which the short form of the setting has no room for."""
    tables = {
        "hub/*": {
            "url": "https://hub.example",
            "keep": "30d",
            "keep_size": "200g",
            "platforms": ["linux/arm"],
        },
        "quay/*": {"url": "https://quay.example", "keep": "keep"},
    }
    settings = Settings.model_validate({"upstreams": tables})
    assert Settings.from_env(child_environment(settings)).upstreams == settings.upstreams


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"store": "s3://bucket/x", "s3_endpoint": "http://10.0.0.1:9000", "s3_region": "eu"},
        {"store": "s3://bucket/x", "store_fallback": "file:///srv/registry"},
    ],
)
def test_a_child_has_the_stores_of_the_server(chosen: dict[str, str]) -> None:
    """All of them, at the same place: to another process, blobs there would be lost."""
    settings = Settings.model_validate(chosen)
    assert Settings.from_env(child_environment(settings)).store_urls == settings.store_urls
