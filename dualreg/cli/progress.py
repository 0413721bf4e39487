"""Progress of long work: a bar with rate and time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

#: Called with what is done since the last call: things, and bytes.
Advance = Callable[[int, int], None]
#: Seconds between lines.
_PAUSE = 5.0
_MIB = 1 << 20


@dataclass
class _Work:
    """How far something has come; see ``progress``."""

    total: int
    size: int
    done: int = 0
    moved: int = 0
    began: float = field(default_factory=time.monotonic)

    def advance(self, count: int, moved: int) -> None:
        self.done += count
        self.moved += moved

    def __str__(self) -> str:
        """Return how much was moved, how fast, and how long the rest will take at that rate."""
        seconds = time.monotonic() - self.began
        parts = []
        if self.size or self.moved:
            limit = f" of at most {self.size / _MIB:,.1f}" if self.size else ""
            parts.append(f"{self.moved / _MIB:,.1f}{limit} MiB")
        if self.moved and seconds >= 1:
            parts.append(f"{self.moved / seconds / _MIB:,.1f} MiB/s")
        whole, done = (self.size, self.moved) if self.size else (self.total, self.done)
        if done and seconds >= 1:
            parts.append(f"{max(whole - done, 0) / done * seconds:,.0f} s left")
        return ", ".join(parts)


@contextmanager
def progress(what: str, total: int, size: int = 0) -> Iterator[Advance]:
    """Show, on the standard error, how far the block has come.

    Args:
        what: The things that are counted.
        total: How many there are, and *size* how many bytes at most; 0: nobody can tell.
    """
    work = _Work(total, size)
    if not sys.stderr.isatty():
        yield _lines(what, work)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TextColumn("{task.fields[rate]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, rate="")

        def advance(count: int, moved: int) -> None:
            work.advance(count, moved)
            bar.update(task, advance=count, rate=str(work))

        yield advance


def _lines(what: str, work: _Work) -> Advance:
    told = work.began

    def advance(count: int, moved: int) -> None:
        nonlocal told
        work.advance(count, moved)
        now = time.monotonic()
        if now - told >= _PAUSE or work.done == work.total:
            told = now
            text = f"{work.done} of {work.total} {what}"
            click.echo(", ".join(filter(None, (text, str(work)))), err=True)

    return advance
