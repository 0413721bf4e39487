"""``dualreg export``: what this registry keeps becomes another's."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import click

from dualreg.cli.failures import Fatal, MigrateCommand
from dualreg.cli.migrate.options import chosen_names, glob_options, jobs_option, login, login_options
from dualreg.cli.migrate.output import FINDINGS, NOTHING, counted_outcomes
from dualreg.cli.migrate.passes import stoppable
from dualreg.cli.options import prepared_registry, settings_options
from dualreg.cli.progress import progress
from dualreg.migrate.export import Export, entries_to_export
from dualreg.migrate.plan import Entry
from dualreg.migrate.run import Outcome, Status
from dualreg.migrate.sources.base import SourceInvalid
from dualreg.migrate.targets.base import TargetInvalid
from dualreg.migrate.transfer import LinkMode
from dualreg.migrate.transports import TargetOptions, open_target
from dualreg.registry import Registry
from dualreg.transports import Use, parse_location


@click.command(cls=MigrateCommand)
@click.argument("target")
@settings_options
@glob_options
@login_options
@click.option("--link", type=click.Choice([str(way) for way in LinkMode]), default="auto", show_default=True,
              help="For registry-tree: hard shares files with this registry; auto shares blocks where the"
              " file system can; copy copies.")  # fmt: skip
@click.option(
    "--deep", is_flag=True, help="Read blobs that are at the target, instead of going by their sizes."
)
@jobs_option
@click.option("--dry-run", is_flag=True, help="Only say what would leave.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(
    target: str, data: Path | None, config: Path | None, *, jobs: int, dry_run: bool, as_json: bool,
    **chosen: Any,  # noqa: ANN401 -- whatever options there are
) -> None:  # fmt: skip
    """Bring tags, with all that they name and all that is about them, to TARGET.

    TARGET is registry-tree:PATH, what the reference registry serves from; oci-layout:PATH;
    docker-archive:FILE (- is the standard output), what docker load reads; static-tree:PATH, what a plain
    web server can serve pulls from; or v2+http(s)://HOST[/PREFIX], another registry. What is there already
    is not sent again. Ends as `migrate run` does.
    """
    with prepared_registry(data, config, alone=True) as (registry, _), stoppable() as stop:
        entries = [*entries_to_export(registry, chosen_names(chosen))]
        if not entries:
            raise Fatal("no tag here is chosen; nothing was written")
        try:
            options = _options(registry, entries, chosen, stop)
            with closing(open_target(target, options)) as opened:
                if dry_run:
                    click.echo("\n".join(entry.name for entry in entries))
                    click.echo(f"{len(entries)} tags would leave.")
                    return
                with progress("tags", len(entries)) as advance:
                    outcomes = Export(
                        registry, opened, stop, lambda outcome: advance(1, outcome.read)
                    ).export_all(entries, jobs)
        except (TargetInvalid, SourceInvalid, OSError) as error:
            raise Fatal(str(error)) from error
    _tell(target, outcomes, as_json=as_json, aside=opened.is_stream)


def _options(
    registry: Registry, entries: Sequence[Entry], chosen: Mapping[str, Any], stop: Event
) -> TargetOptions:
    return TargetOptions(
        registry,
        [entry.repository for entry in entries],
        stop,
        LinkMode(chosen["link"]),
        bool(chosen["deep"]),
        login(chosen),
    )


def _tell(target: str, outcomes: Sequence[Outcome], *, as_json: bool, aside: bool) -> None:
    """Print how it went, *aside*: as errors are; end with what it comes to."""
    counts = Counter(outcome.status for outcome in outcomes)
    there = counts[Status.DONE] + counts[Status.SAME]
    if as_json:
        tags = [
            {"tag": each.entry.name, "status": each.status, "reason": each.reason, "digest": each.digest}
            for each in outcomes
        ]
        click.echo(json.dumps({"counts": counts, "tags": tags}, indent=2), err=aside)
    else:
        for outcome in outcomes:
            if outcome.reason:
                click.echo(f"{outcome.entry.name}: {outcome.status}: {outcome.reason}", err=aside)
        click.echo(counted_outcomes(outcomes), err=aside)
        if there:
            click.echo(f"Next:  {parse_location(target, Use.TARGET).next_step}", err=aside)
    if counts[Status.FAILED] + counts[Status.STOPPED]:
        raise SystemExit(FINDINGS if there else NOTHING)
