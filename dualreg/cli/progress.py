"""Progress of long work: a bar with rate and time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

#: Called with what is done since the last call: things, and bytes; by any thread.
Advance = Callable[[int, int], None]
#: Seconds between lines.
_PAUSE = 5.0
_MIB = 1 << 20


@dataclass
class Pace:
    """How far something has come, and how fast.

    Attributes:
        total: How many things there are, and *size* how many bytes at most; 0 if that is not known.
    """

    total: int
    size: int
    done: int = 0
    moved: int = 0
    began: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        """Return how much was read, how fast, and how long the rest will take at that rate."""
        seconds = time.monotonic() - self.began
        told = []
        if self.size:
            told.append(f"{self.moved / _MIB:,.1f} of at most {self.size / _MIB:,.1f} MiB")
        elif self.moved:
            told.append(f"{self.moved / _MIB:,.1f} MiB")
        if seconds >= 1:
            if self.moved:
                told.append(f"{self.moved / _MIB / seconds:,.1f} MiB/s")
            if left := self._left(seconds):
                told.append(f"{left:,.0f} s left")
        return ", ".join(told)

    def _left(self, seconds: float) -> float:
        """Return the seconds that the rest will take: by bytes, or by things if none need to be read."""
        done, total = (self.moved, self.size) if self.size else (self.done, self.total)
        return seconds * max(total - done, 0) / done if done else 0


@contextmanager
def progress(what: str, total: int, size: int = 0, *, quiet: bool = False) -> Iterator[Advance]:
    """Show, on the standard error, how far the block has come.

    Args:
        what: The things that are counted.
        total: How many there are, and *size* how many bytes at most; 0: nobody can tell.
        quiet: Show nothing.
    """
    pace = Pace(total, size)
    if quiet:
        yield lambda *_: None
        return
    if not sys.stderr.isatty():
        yield _counting(pace, _lines(what, pace))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TextColumn("{task.fields[rate]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, rate="")
        yield _counting(pace, lambda: bar.update(task, completed=pace.done, rate=str(pace)))


def _counting(pace: Pace, show: Callable[[], None]) -> Advance:
    lock = Lock()

    def advance(count: int, read: int) -> None:
        with lock:
            pace.done += count
            pace.moved += read
            show()

    return advance


def _lines(what: str, pace: Pace) -> Callable[[], None]:
    told = pace.began

    def show() -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= _PAUSE or pace.done == pace.total:
            told = now
            rate = str(pace)
            click.echo(f"{pace.done} of {pace.total} {what}{', ' * bool(rate)}{rate}", err=True)

    return show
