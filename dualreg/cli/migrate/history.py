"""``dualreg migrate report`` and ``rollback``: what runs did, and how to undo it."""

from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from dualreg.cli.admin import audited_registry
from dualreg.cli.failures import MigrateCommand
from dualreg.cli.migrate.output import exit_with, print_report, print_runs
from dualreg.cli.options import announce_registry, json_option, load_settings, settings_options
from dualreg.cli.output import echo, echo_csv, echo_json, records
from dualreg.cli.readonly import require_changeable
from dualreg.messages import counted
from dualreg.migrate import journal
from dualreg.migrate.journal import place_of
from dualreg.migrate.report import Report, images_csv, read_report, tags_csv
from dualreg.migrate.rollback import RollbackResult
from dualreg.migrate.rollback import rollback as undo
from dualreg.settings import Settings


@click.command(cls=MigrateCommand)
@click.argument("run_", metavar="[RUN]", required=False)
@click.option("--list", "as_list", is_flag=True, help="List all runs, oldest first.")
@click.option("--all", "of_all", is_flag=True, help="Report on all runs that were not rolled back.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one line per tag.")
@click.option("--csv-images", is_flag=True, help="Print CSV that maps V1 image IDs to digests.")
@json_option
@settings_options
def report(run_: str | None, data: Path | None, config: Path | None, **flags: bool) -> None:
    """Report what RUN did; by default, the last run.

    Exit status: 0 if every selected tag was imported, 1 if some were, or if the last run over a source was
    interrupted, 3 if none was. With --list, always 0.
    """
    _check_exclusive("--list, --all and RUN", flags["as_list"], flags["of_all"], bool(run_))
    _check_exclusive("--json, --csv and --csv-images", flags["as_json"], flags["as_csv"], flags["csv_images"])
    settings = load_settings(config, data=data)
    announce_registry(settings)
    folder = settings.journals
    every = flags["as_list"] or flags["of_all"]
    reports = [read_report(folder, name) for name in _chosen_runs(folder, run_, every=every)]
    if flags["of_all"]:
        reports = [each for each in reports if not each.undone]
    if flags["as_csv"]:
        echo_csv(tags_csv(reports))
    elif flags["csv_images"]:
        echo_csv(images_csv(reports))
    elif flags["as_list"]:
        _list(reports, as_json=flags["as_json"])
    elif flags["as_json"]:
        records(reports)
    else:
        for each in reports:
            print_report(each)
    if not flags["as_list"]:
        _exit_as(reports)


def _exit_as(reports: list[Report]) -> None:
    """Exit with the status of *reports*, in which what the last one says of a tag or source counts."""
    statuses = {
        (tag["source"], tag["repository"], tag["tag"]): tag["status"] for each in reports for tag in each.tags
    }
    unfinished = {place_of(each.source): each.unfinished for each in reports}
    exit_with(Counter(statuses.values()), unfinished=any(unfinished.values()))


def _list(reports: list[Report], *, as_json: bool) -> None:
    if not as_json:
        print_runs(reports)
        return
    rows = [
        {"run": each.run, "at": each.at, "source": each.source, "ended": each.ended,
         "unfinished": each.unfinished, "undone": each.undone, "counts": each.counts,
         "images": len(each.images)} for each in reports
    ]  # fmt: skip
    echo_json(rows)


@click.command(cls=MigrateCommand)
@click.argument("run_", metavar="[RUN]", required=False)
@click.option("--all", "source", metavar="SOURCE", help="Roll back all runs over SOURCE.")
@click.option(
    "--dry-run", is_flag=True, help="Only print what would be removed; this blocks writers meanwhile."
)
@json_option
@settings_options
def rollback(
    run_: str | None, data: Path | None, config: Path | None, *, source: str | None, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Remove what RUN added, except what was moved or is in use since."""
    if bool(run_) == bool(source):
        raise click.UsageError("expected either RUN or --all SOURCE")
    known = load_settings(config, data=data).journals
    runs = journal.runs_over(known, source) if source else _chosen_runs(known, run_)
    with audited_registry(data, config, alone=True) as (registry, settings, record):
        with journal.exclusive(settings.journals):
            require = partial(require_changeable, settings)
            undone = undo(registry, settings.journals, *runs, dry_run=dry_run, require=require)
            if not dry_run:
                counts = {"tags": undone.tags, "images": undone.images, "blobs": undone.blobs}
                record("migrate rollback", run=", ".join(runs), **counts)
        _warn_of_legacy_source(settings, runs)
    _print_undone(undone, runs, dry_run=dry_run, as_json=as_json)


def _print_undone(undone: RollbackResult, runs: list[str], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        echo_json({"runs": runs, "dry_run": dry_run, **asdict(undone)})
        return
    for line in undone.kept:
        echo(f"kept: {line}")
    parts = [counted(undone.tags, "tag")]
    parts += [
        counted(count, noun)
        for count, noun in ((undone.manifests, "manifest"), (undone.images, "image"))
        if count
    ]
    verb = "Would remove" if dry_run else "Removed"
    echo(f"{verb} {', '.join(parts)} and {counted(undone.blobs, 'blob')}.")


def _warn_of_legacy_source(settings: Settings, runs: list[str]) -> None:
    """Print a warning if on-demand import would import again what was removed."""
    legacy = settings.legacy_source
    places = {journal.source_of(settings.journals, run) for run in runs}
    if legacy and place_of(legacy) in places:
        echo(f"legacy_source is still {legacy}: images are imported again on demand.", err=True)


def _chosen_runs(folder: Path, run_: str | None, *, every: bool = False) -> list[str]:
    """Return the run that is named, or the last one, or all.

    Raises:
        ValueError: there is no such run, or none at all.
    """
    known = journal.runs(folder)
    if not known and not every:
        raise ValueError(f"there is no run yet in {folder}")
    if run_ and run_ not in known:
        raise ValueError(f"there is no run {run_}")
    if every:
        return known
    return [run_ or known[-1]]


def _check_exclusive(names: str, *given: bool) -> None:
    if sum(given) > 1:
        raise click.UsageError(f"{names} cannot be combined")
