"""``dualreg migrate``: another registry's content becomes this one's."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click

from dualreg.cli.admin_log import audited_registry
from dualreg.cli.migrate_options import (
    Fatal,
    choice_options,
    first_line,
    jobs_option,
    library_of,
    looked_through,
    planned,
    planned_again,
    refused,
    serving,
    source_options,
)
from dualreg.cli.migrate_passes import Passes, duration, stoppable
from dualreg.cli.migrate_told import FINDINGS, counted, outlook, tell, tell_entries, tell_report
from dualreg.cli.options import prepared_registry, settings_options
from dualreg.cli.output import records
from dualreg.cli.progress import progress
from dualreg.migrate import journal
from dualreg.migrate.choice import Choice, lost_tags
from dualreg.migrate.journal import JournalBusy
from dualreg.migrate.over_http import OverHttp
from dualreg.migrate.plan import Action, read_plan, write_plan
from dualreg.migrate.report import report as make_report
from dualreg.migrate.rollback import rollback as take_out
from dualreg.migrate.run import Existing
from dualreg.migrate.sorts import Manner, comparison_of
from dualreg.migrate.transfer import Way
from dualreg.migrate.verify import verify as compare
from dualreg.settings import Settings


@click.group()
def migrate() -> None:
    """Take in what another registry keeps, without pulling or pushing anything.

    SOURCE is v1-tree:PATH, the storage of docker-registry 0.5 to 0.9, or its configuration with --flavor;
    registry-tree:PATH, the storage of the reference registry; oci-layout:PATH; docker-archive:FILE, what
    docker save writes; or v1+http(s)://HOST[/REPOSITORY] and v2+http(s)://HOST[/REPOSITORY], a live registry.
    The source is never changed.
    """


@migrate.command()
@click.argument("source")
@settings_options
@source_options
@click.option("--deep", is_flag=True, help="Also read every layer through.")
@jobs_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(
    source: str, data: Path | None, config: Path | None, *, deep: bool, jobs: int, as_json: bool,
    **access: object,
) -> None:  # fmt: skip
    """Look through SOURCE: what is in it, and what is wrong with it; ends with 0 if nothing is, else 1."""
    del data, config  # taken by every command; nothing here needs them
    found = looked_through(source, {**access, "jobs": jobs})
    findings = [*found.findings, *lost_tags(found, Choice(library=library_of(found)))]
    if deep:
        with progress("layers", found.things, found.size) as advance:
            findings += found.read_through(jobs, advance)
    told = found.numbers()
    if as_json:
        click.echo(json.dumps({**told, "findings": [asdict(each) for each in findings]}, indent=2))
    else:
        for finding in findings:
            click.echo(finding)
        click.echo("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in told.items()))
        click.echo(f"findings: {counted(findings)}" if findings else "nothing is wrong with it")
        click.echo(f"Next:  dualreg migrate run {source} --dry-run")
    if findings:
        raise SystemExit(FINDINGS)


@migrate.command()
@click.argument("source")
@settings_options
@choice_options
@jobs_option
@click.option("-o", "--output", type=click.File("w"), default="-", help="Write to this file.")
def plan(source: str, data: Path | None, config: Path | None, output: TextIO, **chosen: object) -> None:
    """Write what `run` would do: a line of JSON for each tag, to be edited and given to `run --plan`."""
    del data, config  # taken by every command; nothing here needs them
    entries = planned(looked_through(source, chosen, dated=True), chosen)
    for line in write_plan(entries):
        click.echo(line, file=output)
    click.echo(outlook(entries), err=True)


@migrate.command()
@click.argument("source")
@settings_options
@choice_options
@click.option("--plan", "plan_file", type=click.File(), help="What `plan` wrote.")
@click.option("--link", type=click.Choice([str(way) for way in Way]), default="auto", show_default=True,
              help="hard shares files with the old registry, which must be stopped for good; auto shares"
              " blocks where the file system can; copy copies.")  # fmt: skip
@click.option("--existing", type=click.Choice([str(each) for each in Existing]),
              help="What to do with tags that are another image here; default: skip, with --follow"
              " newer.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Refuse images that are marked as being pushed, whole or not.")
@jobs_option
@click.option("--follow", callback=duration, metavar="DURATION",
              help="Go on, look again after 10m or so, and take in what is new or newer there.")  # fmt: skip
@click.option("--parent", type=int, hidden=True, help="End with this process.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run(
    source: str, data: Path | None, config: Path | None, *, dry_run: bool, as_json: bool,
    plan_file: TextIO | None, **chosen: Any,  # noqa: ANN401 -- whatever options there are
) -> None:  # fmt: skip
    """Take in the tags of SOURCE. It may be interrupted at any time, and run again: then it goes on.

    Ends with 0 if every planned tag is here, 1 if some are, 3 if none is, 2 if it could not begin.
    """
    with _failing(), audited_registry(data, config, alone=True) as (registry, settings, record):
        found = looked_through(source, chosen, sparse=settings.sparse_indexes)
        manner = Manner(Way(str(chosen["link"])), bool(chosen["strict"]))
        entries = read_plan(plan_file) if plan_file else planned(found, chosen)
        lost = 0 if plan_file else len(refused(found))
        if plan_file and chosen["follow"]:
            raise Fatal("--follow makes a plan of its own for each pass")
        if dry_run:
            tell_entries(entries)
            click.echo(outlook(entries))
            return
        existing = Existing(chosen["existing"] or (Existing.NEWER if chosen["follow"] else Existing.SKIP))
        passes = Passes(registry, settings, source, manner, existing, chosen["jobs"], record)
        with stoppable() as stop:
            if pause := chosen["follow"]:
                look = partial(planned_again, source, chosen, settings)
                passes.follow(pause, stop, look, chosen["parent"])
                return
            with journal.alone(settings.journals):
                name, outcomes = passes.run(found, entries, stop)
    tell(name, source, outcomes, lost=lost, as_json=as_json)


@migrate.command()
@click.argument("source")
@settings_options
@choice_options
@click.option("--plan", "plan_file", type=click.File(), help="What `plan` wrote, and `run` took in.")
@click.option("--quick", is_flag=True, help="Compare sizes instead of reading every layer.")
@click.option("--http", metavar="URL", help="Also what clients get from the registry that serves there.")
@click.option("--http-user", help="To log in with there.")
@click.option("--http-password-file", type=click.File(), callback=first_line, help="Has its password.")
@jobs_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(
    source: str, data: Path | None, config: Path | None, *, quick: bool, as_json: bool,
    plan_file: TextIO | None, **chosen: Any,  # noqa: ANN401 -- whatever options there are
) -> None:  # fmt: skip
    """Compare SOURCE with what is here, tag by tag and layer by layer, whatever any run says it did."""
    with _failing(), prepared_registry(data, config, alone=True) as (registry, settings):
        found = looked_through(source, chosen, sparse=settings.sparse_indexes)
        entries = read_plan(plan_file) if plan_file else planned(found, chosen)
        comparison, verdicts = comparison_of(found, registry, quick=quick), []
        if chosen["http"]:
            comparison = OverHttp(registry, comparison, serving(chosen), quick)
        with progress("tags", sum(entry.action is Action.IMPORT for entry in entries)) as advance:
            for verdict in compare(comparison, entries, chosen["jobs"]):
                verdicts.append(verdict)
                advance(1, 0)
    wrong = [verdict for verdict in verdicts if verdict.problems]
    if as_json:
        told = {verdict.entry.name: verdict.problems for verdict in wrong}
        click.echo(json.dumps({"verified": len(verdicts) - len(wrong), "wrong": told}, indent=2))
    else:
        for verdict in wrong:
            for problem in verdict.problems:
                click.echo(f"{verdict.entry.name}: {problem}")
        click.echo(f"{len(verdicts) - len(wrong)} of {len(verdicts)} tags are here as they were there.")
        if lost := sum(entry.action is Action.SKIP for entry in entries):
            click.echo(f"{lost} more cannot be taken in: dualreg migrate inspect {source}")
    if wrong or (refused(found) and not plan_file):
        raise SystemExit(FINDINGS)


@migrate.command()
@click.argument("run_", metavar="[RUN]", required=False)
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: the map from V1 ids to digests.")
def report(run_: str | None, data: Path | None, config: Path | None, *, as_json: bool, as_csv: bool) -> None:
    """Tell what RUN, or the last one, did."""
    with _failing(), prepared_registry(data, config, alone=True) as (_, settings):
        told = make_report(settings.journals, _chosen_run(settings, run_))
    if as_csv:
        click.echo(told.csv(), nl=False)
    elif as_json:
        records([told])
    else:
        tell_report(told)


@migrate.command()
@click.argument("run_", metavar="RUN")
@settings_options
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def rollback(run_: str, data: Path | None, config: Path | None, *, dry_run: bool) -> None:
    """Take out what RUN added, but for what was moved or is used by something else since."""
    with _failing(), audited_registry(data, config, alone=True) as (registry, settings, record):
        folder = settings.journals
        with journal.alone(folder):
            undone = take_out(registry, folder, run_, dry_run=dry_run)
            if not dry_run:
                counts = {"tags": undone.tags, "images": undone.images, "blobs": undone.blobs}
                record("migrate rollback", run=run_, **counts)
    for line in undone.kept:
        click.echo(f"kept: {line}")
    verb = "Would take out" if dry_run else "Took out"
    parts = (("tags", undone.tags), ("manifests", undone.manifests), ("images", undone.images))
    told = ", ".join(f"{count} {name}" for name, count in parts if count or name == "tags")
    click.echo(f"{verb} {told} and {undone.blobs} blobs.")


@contextmanager
def _failing() -> Iterator[None]:
    """Turn what cannot be done into one line, and the status that says so."""
    try:
        yield
    except (ValueError, OSError, JournalBusy) as error:
        raise Fatal(str(error)) from error


def _chosen_run(settings: Settings, run_: str | None) -> str:
    known = journal.runs(settings.journals)
    if not known:
        raise ValueError("there is no run yet")
    return run_ or known[-1]
