"""Places in lists, as text: an instant and a name, after which the next page starts."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from dualreg.catalog.clock import as_microseconds, from_microseconds
from dualreg.errors import PageInvalid

Value = TypeVar("Value")
#: Microseconds since the epoch, and a name or digest.
_PLACE = re.compile(r"([0-9]{1,17})-(.{1,200})", re.ASCII)


def format_place(instant: datetime, name: object) -> str:
    """Return the place of the entry with that *instant* and *name*."""
    return f"{as_microseconds(instant)}-{name}"


def parse_place(text: str | None, parse_name: Callable[[str], Value]) -> tuple[datetime, Value] | None:
    """Return the instant and the name of a place; None without one.

    Raises:
        PageInvalid: it is malformed. Also what *parse_name* raises.
    """
    found = parse_number_place(text, parse_name)
    return (from_microseconds(found[0]), found[1]) if found else None


def format_number_place(number: int, name: object) -> str:
    """Return the place of the entry with that *number* and *name*."""
    return f"{number}-{name}"


def parse_number_place(text: str | None, parse_name: Callable[[str], Value]) -> tuple[int, Value] | None:
    """Return the number and the name of a place; None without one.

    Raises:
        PageInvalid: it is malformed. Also what *parse_name* raises.
    """
    if text is None:
        return None
    match = _PLACE.fullmatch(text)
    if match is None:
        raise PageInvalid(after=text[:200])
    return int(match[1]), parse_name(match[2])


def parse_row_number(text: str) -> int:
    """Return the number of a row of the catalog.

    Raises:
        PageInvalid: it is none.
    """
    if not (text.isascii() and text.isdecimal() and len(text) < len(str(1 << 63))):
        raise PageInvalid(after=text[:200])
    return int(text)
