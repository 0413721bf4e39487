"""Output: what commands print, for people and for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click


def counted(count: int, noun: str) -> str:
    """Return ``1 tag`` or ``2 tags``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print *rows* below *headings*, or nothing if there are none."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def records(rows: Sequence[Any], *leave_out: str) -> None:
    """Print dataclasses as a JSON list, without the fields *leave_out*."""
    fields = [{key: value for key, value in asdict(row).items() if key not in leave_out} for row in rows]
    click.echo(json.dumps(fields, default=_plain, indent=2))


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)
