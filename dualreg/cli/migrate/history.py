"""``dualreg migrate report`` and ``rollback``: what runs did, and how that is taken out again."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from dualreg.cli.admin_log import audited_registry
from dualreg.cli.failures import MigrateCommand
from dualreg.cli.migrate.output import tell_report, tell_runs
from dualreg.cli.options import load_settings, settings_options
from dualreg.cli.output import records
from dualreg.migrate import journal
from dualreg.migrate.journal import place_of
from dualreg.migrate.report import Report, images_csv, read_report, tags_csv
from dualreg.migrate.rollback import RollbackResult
from dualreg.migrate.rollback import rollback as take_out
from dualreg.settings import Settings


@click.command(cls=MigrateCommand)
@click.argument("run_", metavar="[RUN]", required=False)
@settings_options
@click.option("--list", "as_list", is_flag=True, help="List all runs, the last one last.")
@click.option("--all", "of_all", is_flag=True, help="What all runs did, but for those that were taken out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: a line for each tag.")
@click.option("--csv-images", is_flag=True, help="Print CSV: the map from all V1 ids to digests.")
def report(run_: str | None, data: Path | None, config: Path | None, **asked: bool) -> None:
    """Tell what RUN, or the last one, did."""
    _check_together("--list, --all and RUN", asked["as_list"], asked["of_all"], bool(run_))
    _check_together("--json, --csv and --csv-images", asked["as_json"], asked["as_csv"], asked["csv_images"])
    folder = load_settings(config, data=data).journals
    told = [read_report(folder, name) for name in _chosen_runs(folder, run_, every=_is_every(asked))]
    if asked["of_all"]:
        told = [each for each in told if not each.undone]
    if asked["as_csv"]:
        click.echo(tags_csv(told), nl=False)
    elif asked["csv_images"]:
        click.echo(images_csv(told), nl=False)
    elif asked["as_list"]:
        _list(told, as_json=asked["as_json"])
    elif asked["as_json"]:
        records(told)
    else:
        for each in told:
            tell_report(each)


def _is_every(asked: dict[str, bool]) -> bool:
    return asked["as_list"] or asked["of_all"]


def _list(told: list[Report], *, as_json: bool) -> None:
    if not as_json:
        tell_runs(told)
        return
    counted = [
        {"run": each.run, "at": each.at, "source": each.source, "ended": each.ended, "undone": each.undone,
         "counts": each.counts, "images": len(each.images)} for each in told
    ]  # fmt: skip
    click.echo(json.dumps(counted, indent=2))


@click.command(cls=MigrateCommand)
@click.argument("run_", metavar="[RUN]", required=False)
@settings_options
@click.option("--all", "source", metavar="SOURCE", help="All runs over SOURCE, as of one that was resumed.")
@click.option("--dry-run", is_flag=True, help="Only say what would go; writers wait meanwhile.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rollback(
    run_: str | None, data: Path | None, config: Path | None, *, source: str | None, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Take out what RUN added, but for what was moved or is used by something else since."""
    if bool(run_) == bool(source):
        raise click.UsageError("either RUN or --all SOURCE")
    known = load_settings(config, data=data).journals
    runs = journal.runs_over(known, source) if source else _chosen_runs(known, run_)
    with audited_registry(data, config, alone=True) as (registry, settings, record):
        with journal.alone(settings.journals):
            undone = take_out(registry, settings.journals, *runs, dry_run=dry_run)
            if not dry_run:
                counts = {"tags": undone.tags, "images": undone.images, "blobs": undone.blobs}
                record("migrate rollback", run=", ".join(runs), **counts)
        _warn(settings, runs)
    _tell(undone, runs, dry_run=dry_run, as_json=as_json)


def _tell(undone: RollbackResult, runs: list[str], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"runs": runs, "dry_run": dry_run, **asdict(undone)}, indent=2))
        return
    for line in undone.kept:
        click.echo(f"kept: {line}")
    verb = "Would take out" if dry_run else "Took out"
    parts = (("tags", undone.tags), ("manifests", undone.manifests), ("images", undone.images))
    told = ", ".join(f"{count} {name}" for name, count in parts if count or name == "tags")
    click.echo(f"{verb} {told} and {undone.blobs} blobs.")


def _warn(settings: Settings, runs: list[str]) -> None:
    """Say so if what was taken out will be taken in again."""
    behind = settings.legacy_source
    places = {journal.source_of(settings.journals, run) for run in runs}
    if behind and place_of(behind) in places:
        click.echo(f"legacy_source is still {behind}: what is asked for comes in again.", err=True)


def _chosen_runs(folder: Path, run_: str | None, *, every: bool = False) -> list[str]:
    """Return the runs that are meant: the one that is named, or the last one, or every one.

    Raises:
        ValueError: there is none.
    """
    known = journal.runs(folder)
    if not known and not every:
        raise ValueError(f"there is no run yet in {folder}")
    if run_ and run_ not in known:
        raise ValueError(f"there is no run {run_}")
    if every:
        return known
    return [run_ or known[-1]]


def _check_together(names: str, *given: bool) -> None:
    if sum(given) > 1:
        raise click.UsageError(f"only one of {names}")
