"""Long work: how far it is, as a bar on a terminal and as lines elsewhere; and an early end by a signal.

Work that only reads is interrupted; work that changes something finishes what it has started.
"""

import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock
from types import FrameType

from dualreg.cli.output import echo

#: Called with the items and the bytes (or other units) that are done since the last call; by any thread.
Advance = Callable[[int, int], None]
#: Seconds between two lines.
_LINE_INTERVAL = 5.0
#: After how many new objects Python collects the young ones, after how many of these those of middle age, and
#: after how many of these all, in ``few_collections``.
_COLLECTIONS = (50_000, 20, 1_000)
_MIB = 1 << 20


@dataclass
class Pace:
    """How much is done, and how fast.

    Attributes:
        total: How many items there are.
        size: How many bytes there are at most; 0 if that is not known.
        unit: What is counted instead of bytes, such as ``link files``; empty: bytes.
        done: Items that are done.
        moved: Bytes that were read.
        began: When it began, by the monotonic clock.
    """

    total: int
    size: int
    unit: str = ""
    done: int = 0
    moved: int = 0
    began: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        """Return the bytes read, the rate, and the time left."""
        seconds = time.monotonic() - self.began
        parts = []
        if self.size:
            parts.append(f"{self.moved / _MIB:,.1f} of at most {self.size / _MIB:,.1f} MiB")
        elif self.moved:
            parts.append(self._amount(self.moved))
        if seconds >= 1:
            if self.moved:
                parts.append(f"{self._amount(self.moved / seconds)}/s")
            if left := self._left(seconds):
                parts.append(f"{left:,.0f} s left")
        return ", ".join(parts)

    def _amount(self, moved: float) -> str:
        return f"{moved:,.0f} {self.unit}" if self.unit else f"{moved / _MIB:,.1f} MiB"

    def _left(self, seconds: float) -> float:
        """Return the seconds left: by bytes, or by items if there are no bytes to read."""
        done, total = (self.moved, self.size) if self.size else (self.done, self.total)
        return seconds * max(total - done, 0) / done if done else 0


@contextmanager
def progress(
    what: str, total: int, size: int = 0, *, unit: str = "", quiet: bool = False
) -> Iterator[Advance]:
    """Show on standard error how much of the block's work is done.

    Args:
        what: What the items are called, such as ``tags``.
        total: How many items there are.
        size: How many bytes there are at most; 0 if that is not known.
        unit: As of ``Pace``.
        quiet: Show nothing.
    """
    pace = Pace(total, size, unit)
    if quiet:
        yield lambda *_: None
        return
    if not sys.stderr.isatty():
        yield _counting(pace, _lines(what, pace))
        return
    with _bar(what, pace) as update:
        yield _counting(pace, update)


@contextmanager
def _bar(what: str, pace: Pace) -> Iterator[Callable[[], None]]:
    """Show a bar on the terminal during the block, and yield what updates it."""
    from rich.console import Console  # noqa: PLC0415 -- megabytes, which other output does not need
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415 -- likewise

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TextColumn("{task.fields[rate]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=pace.total, rate="")
        yield lambda: bar.update(task, completed=pace.done, rate=str(pace))


def _counting(pace: Pace, show: Callable[[], None]) -> Advance:
    lock = Lock()

    def advance(count: int, read: int) -> None:
        with lock:
            pace.done += count
            pace.moved += read
            show()

    return advance


def _lines(what: str, pace: Pace) -> Callable[[], None]:
    printed = pace.began

    def show() -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed >= _LINE_INTERVAL or pace.done == pace.total:
            printed = now
            rate = str(pace)
            echo(f"{pace.done} of {pace.total} {what}{', ' * bool(rate)}{rate}", err=True)

    return show


class Interrupted(KeyboardInterrupt):
    """The command was asked to end while it only read."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGTERM and SIGINT raise Interrupted in the block, which must not be changing anything."""

    def interrupt(number: int, _: object) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}; run the command again")

    with _handling(interrupt):
        yield


@contextmanager
def stoppable(*, quiet: bool = False) -> Iterator[Event]:
    """Yield an event that SIGTERM and SIGINT set during the block, which finishes what it has started.

    Args:
        quiet: Print nothing when that happens.
    """
    stop = Event()

    def request_stop(*_: object) -> None:
        if not quiet:
            echo("Stopping after the current work. Run again to resume.", err=True)
        stop.set()

    with _handling(request_stop):
        yield stop


@contextmanager
def few_collections() -> Iterator[None]:
    """Have Python look for cycles among all objects hardly ever in the block.

    That is for one which makes millions of objects, without cycles: each time that there are a quarter more,
    Python would look at all of them, which takes a tenth of the time.
    """
    before = gc.get_threshold()
    gc.set_threshold(*_COLLECTIONS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have SIGTERM and SIGINT call *handler* during the block."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
