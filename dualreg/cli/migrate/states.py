"""``dualreg migrate runs`` and ``status``: how far runs are, here or on a server."""

from pathlib import Path

import click

from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import Columns, echo, echo_json
from dualreg.cli.paging import listed, print_pages
from dualreg.messages import counted
from dualreg.migrate.states import ListedRun

_PARTIAL = "only the last part of the journal was counted; `dualreg migrate report {run}` has all"


@click.command()
@click.option("--limit", type=click.IntRange(1), help="Show only so many, the newest first.")
@json_option
@settings_options
def runs(data: Path | None, config: Path | None, *, limit: int | None, as_json: bool) -> None:
    """List runs with how far they are, the newest first.

    With --json, each run is one line.
    """
    with administration(data, config, unopened=True) as admin:
        found = listed(lambda n, after: admin.migrations.runs(n=min(n, 20), after=after or ""), limit)
        columns = Columns("RUN", "STARTED", "SOURCE", "STATUS", "TAGS")
        count = print_pages(found, columns, _cells, _members, as_json=as_json)
    if not count and not as_json:
        echo("There are no runs.")


@click.command()
@click.argument("run")
@json_option
@settings_options
def status(run: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show how far RUN is, what it left out, and what to do about that."""
    with administration(data, config, unopened=True) as admin:
        found = admin.migrations.status(run)
    if as_json:
        echo_json(found)
        return
    echo(f"run {run} of {found.run.source}: {found.run.status}")
    echo(f"{_counts(found.run)}; {counted(found.images, 'V1 image')}, {found.verified} verified by checksum")
    for each in found.left_out:
        echo(f"{each.kind}: {counted(each.tags, 'tag')}: {each.mend}")
        for example in each.examples:
            echo(f"  {example}")
    if found.run.partial:
        echo(_PARTIAL.format(run=run))


def _counts(run: ListedRun) -> str:
    return ", ".join(f"{count} {name}" for name, count in run.counts.items()) or "no tags"


def _cells(run: ListedRun) -> tuple[str, ...]:
    return run.run, run.at[:19], run.source, run.status, _counts(run)


def _members(run: ListedRun) -> dict[str, object]:
    return {
        "run": run.run, "at": run.at, "source": run.source, "status": run.status, "counts": run.counts,
        "partial": run.partial,
    }  # fmt: skip
