"""Pace: work in steps at a bounded rate, which ends when it has to."""

import time
from collections.abc import Callable
from datetime import datetime

from dualreg.registry.writes import Writes
from dualreg.settings import Settings
from dualreg.settings.values import in_window


def paced(
    settings: Settings, writes: Writes, *, window: str = "", dry_run: bool = False, gently: bool = False
) -> Callable[[int], bool]:
    """Return what delays steps so that they handle ``gc_rate`` items per second.

    It returns False, which ends the work, outside of *window*, and when the registry is made read-only.

    Args:
        dry_run: Whether the work changes nothing, and may go on in a registry that is read-only.
        gently: Without a rate, pause for as long as each step takes, so that others get half of the time.
    """
    due, rate = time.monotonic(), settings.gc_rate

    def pace(count: int) -> bool:
        nonlocal due
        now = time.monotonic()
        if gently and not rate:
            time.sleep(min(now - due, 1.0) if count else 0)
            due = time.monotonic()
        else:
            time.sleep(max(0.0, due - now))
            due = max(due, time.monotonic()) + (count / rate if rate else 0)
        is_time = in_window(window, datetime.now().astimezone().time())
        return is_time and (dry_run or writes.marked() is None)

    return pace
