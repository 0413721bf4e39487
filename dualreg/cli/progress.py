"""Progress of long work: a bar with rate and time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

#: Called with what is done since the last call: things, and bytes.
Advance = Callable[[int, int], None]
#: Seconds between lines.
_PAUSE = 5.0
_MIB = 1 << 20


@contextmanager
def progress(what: str, total: int, size: int) -> Iterator[Advance]:
    """Show, on the standard error, how far the block has come.

    Args:
        what: The things that are counted.
        total: How many there are, and *size* how many bytes at most.
    """
    if not sys.stderr.isatty():
        yield _lines(what, total, size)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TextColumn("{task.fields[rate]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, rate="")
        began, moved = time.monotonic(), 0

        def advance(count: int, read: int) -> None:
            nonlocal moved
            moved += read
            bar.update(task, advance=count, rate=_rate(moved, time.monotonic() - began, size))

        yield advance


def _lines(what: str, total: int, size: int) -> Advance:
    began = told = time.monotonic()
    done = moved = 0

    def advance(count: int, read: int) -> None:
        nonlocal told, done, moved
        done, moved = done + count, moved + read
        now = time.monotonic()
        if now - told >= _PAUSE or done == total:
            told = now
            click.echo(f"{done} of {total} {what}, {_rate(moved, now - began, size)}", err=True)

    return advance


def _rate(moved: float, seconds: float, size: int) -> str:
    """Return how much was read, how fast, and how long the rest will take at that rate."""
    text = f"{moved / _MIB:,.1f} of at most {size / _MIB:,.1f} MiB"
    if not moved or seconds < 1:
        return text
    speed = moved / seconds
    return f"{text}, {speed / _MIB:,.1f} MiB/s, {max(size - moved, 0) / speed:,.0f} s left"
