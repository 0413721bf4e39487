"""Output: what commands print, for people and for programs."""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import click

from dualreg.image.digest import Digest
from dualreg.messages import counted, json_text, mask, safe_line

_MIB = 1 << 20
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"))


def capped(count: int, limit: int) -> str:
    """Return a number that was counted up to a limit: ``10000+`` if there may be more."""
    return f"{count}+" if count >= limit else f"{count}"


def counted_upto(count: int, limit: int, noun: str) -> str:
    """Return ``1 tag``, ``2 tags`` or, if there may be more than *limit*, ``10000+ tags``."""
    return counted(count, noun) if count < limit else f"{capped(count, limit)} {noun}s"


def amount(blobs: int, size: int) -> str:
    """Return ``2 blobs (1.5 MiB)``, given bytes."""
    return f"{counted(blobs, 'blob')} ({size / _MIB:,.1f} MiB)"


def sized(size: int) -> str:
    """Return a number of bytes as people read it: ``17 bytes``, ``1.5 MiB``."""
    if size < 1 << 10:
        return counted(size, "byte")
    unit, name = next((each for each in _UNITS if size >= each[0]), (1 << 10, "KiB"))
    return f"{size / unit:,.1f} {name}"


def minute(at: datetime) -> str:
    """Return an aware instant as people read it, to the minute."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def second(at: datetime) -> str:
    """Return an aware instant as people read it, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


class _Printing:
    """How lines for people are printed.

    Attributes:
        render: Makes a line of a level and a text; None: the text is the line.
    """

    render: Callable[[str, str], str] | None = None


_printing = _Printing()


def print_as_log(render: Callable[[str, str], str]) -> None:
    """Print what ``echo`` is given as lines of a log from now on: the process is a server, or its child.

    Args:
        render: Makes a line of a level and a text.
    """
    _printing.render = render


def echo(text: object, *, err: bool = False) -> None:
    """Print one line, whatever is in it; all output goes through this function or the next ones."""
    render = _printing.render
    line = render("warning" if err else "info", str(text)) if render else safe_line(text)
    click.echo(line, err=err)


def echo_json(value: object, *, indent: int | None = 2, err: bool = False) -> None:
    """Print *value* as JSON, with digests and times as in responses of the API."""
    click.echo(mask(json_text(value, indent=indent, default=_plain)), err=err)


def echo_csv(text: str) -> None:
    """Print lines of CSV whose cells are printable."""
    click.echo(mask(text), nl=False)


class Columns:
    """A table whose rows are printed as they are found, in columns as wide as the first ones need."""

    def __init__(self, *headings: str) -> None:
        self._headings, self._widths = headings, list[int]()

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Print *rows*; before the first ones, the headings."""
        if not rows:
            return
        printed = rows
        if not self._widths:
            printed = (self._headings, *rows)
            self._widths = [max(map(len, column)) for column in zip(*printed, strict=True)]
        for row in printed:
            echo("  ".join(cell.ljust(width) for cell, width in zip(row, self._widths, strict=True)).rstrip())


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print *rows* below *headings*, or nothing if there are none."""
    Columns(*headings).add(rows)


def records(rows: Sequence[Any], *leave_out: str) -> None:
    """Print dataclasses as a JSON list, without the fields *leave_out*."""
    echo_json([{key: value for key, value in members(row).items() if key not in leave_out} for row in rows])


def members(row: Any) -> dict[str, object]:  # noqa: ANN401 -- any dataclass
    """Return the members of a dataclass by name, as JSON has them."""
    return {field.name: getattr(row, field.name) for field in fields(row)}


def _plain(value: object) -> object:
    """Return a value that JSON lacks as one that it has."""
    if is_dataclass(value) and not isinstance(value, Digest):
        return members(value)
    if isinstance(value, frozenset):
        return sorted(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)
