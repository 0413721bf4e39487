"""``dualreg status``: whether the registry works, and how much room it has."""

from collections.abc import Iterator
from pathlib import Path

import click

from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json, minute, sized
from dualreg.messages import counted
from dualreg.operations.service import RegistryStatus


@click.command()
@json_option
@settings_options
def status(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show whether the registry works, and how much room it has.

    The catalog and the store are read and written for that, as `dualreg health` has a server do. Exits with 1
    if something fails.
    """
    with administration(data, config, alone=True) as admin:
        found = admin.service.status()
    if as_json:
        echo_json(found)
    else:
        for line in _lines(found):
            echo(line)
    if found.failures:
        raise SystemExit(1)


def _lines(found: RegistryStatus) -> Iterator[str]:
    """Yield what there is to say."""
    since = f", serving since {minute(found.since)}" if found.since else ""
    yield f"dualreg {found.version}{since}"
    yield from (f"{name} fails: {error}" for name, error in found.failures.items())
    if not found.failures:
        yield "The catalog and the store can be read and written."
    if found.readonly is not None:
        yield f"The registry is read-only: {found.readonly}"
    if found.damaged:
        yield f"{counted(found.damaged, 'blob')} lost or damaged; `dualreg fsck` lists them."
    yield f"The catalog is {found.database} of {sized(found.catalog_bytes)}."
    if found.free is not None:
        room = "" if found.room is None else f"; pushes may use {sized(found.room)} of them (min_free)"
        yield f"{sized(found.free)} are free on the disk{room}."
