"""The disk space of an import: what commands print of it, and warnings if there is too little."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from dualreg.cli.output import echo
from dualreg.migrate.base import Survey
from dualreg.migrate.plan import Entry
from dualreg.migrate.space import Content, Volume
from dualreg.migrate.transfer import LinkMode
from dualreg.settings import Settings
from dualreg.storage import open_store
from dualreg.storage.base import keeps

#: The key of the warnings; the other members are numbers.
WARNINGS = "warnings"


def space_for(
    found: Survey, entries: Iterable[Entry], settings: Settings, link: LinkMode = LinkMode.AUTO
) -> Mapping[str, Any]:
    """Return by JSON key what a copy takes, what there is, and a warning for each that is too little.

    Raises:
        OSError: the file system of the store cannot be examined.
    """
    content, volume = found.content(entries), Volume.of(settings.store_folder)
    need = volume.need(content.linked() if link is LinkMode.HARD else content)
    in_place = found.is_store(partial(keeps, open_store(*settings.store_urls)))  # then nothing is copied
    shortages = () if in_place else volume.shortages(need)
    return {
        "copy_bytes": need.bytes,
        "copy_inodes": need.inodes,
        "free_bytes": volume.free_bytes,
        "free_inodes": volume.free_inodes,
        WARNINGS: [*shortages],
    }


def warn_of_shortage(content: Content, settings: Settings) -> None:
    """Print on standard error which space is too little for *content*."""
    volume = Volume.of(settings.store_folder)
    print_warnings(volume.shortages(volume.need(content)))


def print_warnings(warnings: Iterable[str]) -> None:
    """Print warnings on standard error."""
    for warning in warnings:
        echo(f"Warning: {warning}", err=True)
