"""The disk space of an import: what commands print of it, and warnings if there is too little."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dualreg.cli.output import echo
from dualreg.migrate.base import Survey
from dualreg.migrate.plan import Entry
from dualreg.migrate.space import Content, Volume
from dualreg.settings import Settings

#: The key of the warnings; the other members are numbers.
WARNINGS = "warnings"


def space_for(source: str, found: Survey, entries: Iterable[Entry], settings: Settings) -> Mapping[str, Any]:
    """Return by JSON key what a copy takes, what there is, and a warning for each that is too little.

    Raises:
        OSError: the file system of the data directory cannot be examined.
    """
    volume = Volume.of(settings.data)
    need = volume.need(found.content(entries))
    shortages = () if _is_in_place(source, settings) else volume.shortages(need)
    return {
        "copy_bytes": need.bytes,
        "copy_inodes": need.inodes,
        "free_bytes": volume.free_bytes,
        "free_inodes": volume.free_inodes,
        WARNINGS: [*shortages],
    }


def warn_of_shortage(content: Content, settings: Settings) -> None:
    """Print on standard error which space is too little for *content*."""
    volume = Volume.of(settings.data)
    print_warnings(volume.shortages(volume.need(content)))


def print_warnings(warnings: Iterable[str]) -> None:
    """Print warnings on standard error."""
    for warning in warnings:
        echo(f"Warning: {warning}", err=True)


def _is_in_place(source: str, settings: Settings) -> bool:
    """Return whether *source* is the data directory itself, of which nothing is copied."""
    transport, _, path = source.partition(":")
    return transport == "registry-tree" and Path(path).resolve() == settings.data.resolve()
