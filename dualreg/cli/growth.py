"""``dualreg growth``: how much was pulled, pushed and stored by day."""

from dataclasses import asdict
from pathlib import Path

import click

from dualreg.catalog.growth import DayRow
from dualreg.catalog.leading import Duty
from dualreg.cli.admin import Record
from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import amount, echo, echo_json, table
from dualreg.cli.turns import Task, run_scheduled
from dualreg.messages import counted
from dualreg.registry import Registry
from dualreg.registry.growth import KEPT
from dualreg.settings import Settings
from dualreg.settings.schedules import Timing

_HEADINGS = ("DAY", "PULLS", "PUSHES", "REPOSITORIES", "TAGS", "BLOBS", "BYTES")


@click.command()
@click.option(
    "--days", type=click.IntRange(1, KEPT), default=30, show_default=True, help="Show so many days."
)
@click.option("--scheduled", is_flag=True, hidden=True, help="Run for the server, if it is due.")
@json_option
@settings_options
def growth(data: Path | None, config: Path | None, *, days: int, scheduled: bool, as_json: bool) -> None:
    """Show how much was pulled, pushed and stored by day.

    Days are in UTC. PULLS are images and artifacts that clients pulled, PUSHES are tags that they pushed.
    What is stored is noted once a day by a task of the server; BYTES is the size of all blobs. Two years are
    kept.
    """
    if scheduled:
        run_scheduled(TASK, data, config)
        return
    with administration(data, config, alone=True) as admin:
        found = admin.service.growth(days)
    if as_json:
        echo_json([asdict(each) for each in found])
        return
    table(_HEADINGS, [_cells(each) for each in found])
    if not any(each.stored for each in found):
        echo("What is stored was not noted yet. Do it now:  dualreg tasks run growth")


def _cells(day: DayRow) -> tuple[str, ...]:
    counts, found = (day.day, f"{day.pulls}", f"{day.pushes}"), day.stored
    if found is None:
        return (*counts, "-", "-", "-", "-")
    return (*counts, *map(str, (found.repositories, found.tags, found.blobs, found.bytes)))


def _work(registry: Registry, settings: Settings, record: Record, window: str) -> str:
    """Note what is stored."""
    del settings, record, window
    stored = registry.growth.note()
    places = counted(stored.repositories, "repository", "repositories")
    return f"noted {amount(stored.blobs, stored.bytes)} and {counted(stored.tags, 'tag')} in {places}"


#: It is of use on followers, too, which have clients of their own.
TASK = Task("growth", Duty.GROWTH, lambda _: Timing("24h"), _work, changes=False)
