"""Texts: how templates write sizes, times and digests."""

from datetime import UTC, datetime

from flask import Blueprint

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
#: Characters of a digest that people compare.
_SHORT = 12


def register(blueprint: Blueprint) -> None:
    """Make them filters of templates: ``| size``, ``| iso``, ``| minute``, ``| short``."""
    for name, write in (("size", size), ("iso", iso), ("minute", minute), ("short", short)):
        blueprint.add_app_template_filter(write, name)


def size(count: int) -> str:
    """Return a number of bytes, such as ``12.3 MiB``."""
    value, unit = float(count), 0
    while value >= _STEP and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def iso(at: datetime) -> str:
    """Return a time as machines read it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def minute(at: datetime) -> str:
    """Return a time as people read it, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def instant(text: str) -> datetime | None:
    """Return the time that a text of ISO 8601 says; None: it says none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def short(digest: object) -> str:
    """Return the beginning of a digest, without its algorithm."""
    return str(digest).rpartition(":")[2][:_SHORT]
