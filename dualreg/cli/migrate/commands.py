"""``dualreg migrate``: another registry's content becomes this one's."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click

from dualreg.cli.admin_log import audited_registry
from dualreg.cli.failures import Fatal, MigrateGroup
from dualreg.cli.follower import supervise
from dualreg.cli.migrate.hints import THERE, command_line
from dualreg.cli.migrate.history import report, rollback
from dualreg.cli.migrate.options import (
    Looked,
    check_plan_alone,
    choice_options,
    first_line,
    jobs_option,
    looked_and_planned,
    looked_through,
    planned,
    refused,
    serving,
    source_options,
)
from dualreg.cli.migrate.output import (
    FINDINGS,
    counted,
    outlook,
    tell,
    tell_foreseen,
    tell_pass,
    tell_verdicts,
)
from dualreg.cli.migrate.passes import Passes, duration, foresee, stoppable
from dualreg.cli.options import existing_registry, load_settings, prepared_registry, settings_options
from dualreg.cli.progress import progress
from dualreg.migrate import journal
from dualreg.migrate.base import ImportOptions
from dualreg.migrate.plan import PlanAction, write_plan
from dualreg.migrate.run import Existing
from dualreg.migrate.selection import Selection, lost_tags, make_plan
from dualreg.migrate.transfer import LinkMode
from dualreg.migrate.verify import verify as compare
from dualreg.migrate.verify_http import HttpComparison
from dualreg.settings import Settings


@click.group(cls=MigrateGroup, commands=[report, rollback])
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
    findings = [*found.findings, *lost_tags(found, Selection(library=found.default_library))]
    if deep:
        with progress("layers", found.blob_count, found.blob_bytes) as advance:
            findings += found.check_blobs(jobs, advance)
    wanted = make_plan(found, Selection(library=found.default_library))
    told = {**found.counts(), "copy_bytes": found.bytes_to_copy(wanted)}
    if as_json:
        click.echo(json.dumps({**told, "findings": [asdict(each) for each in findings]}, indent=2))
    else:
        for finding in findings:
            click.echo(finding)
        click.echo("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in told.items()))
        click.echo(f"findings: {counted(findings)}" if findings else "nothing is wrong with it")
        click.echo(f"Next:  {command_line(THERE, 'run', source, '--dry-run')}")
    if findings:
        raise SystemExit(FINDINGS)


@migrate.command()
@click.argument("source")
@settings_options
@choice_options
@jobs_option
@click.option("-o", "--output", type=click.Path(), default="-", help="Write to this file.")
def plan(source: str, data: Path | None, config: Path | None, output: str, **chosen: object) -> None:
    """Write what `run` would do: a line of JSON for each tag, to be edited and given to `run --plan`."""
    del data, config  # taken by every command; nothing here needs them
    entries = planned(looked_through(source, chosen, dated=True), chosen)
    with click.open_file(output, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in write_plan(entries))
    click.echo(outlook(entries), err=True)


@migrate.command()
@click.argument("source")
@settings_options
@choice_options
@click.option("--plan", "plan_file", type=click.File(), help="What `plan` wrote.")
@click.option("--link", type=click.Choice([str(way) for way in LinkMode]), default="auto", show_default=True,
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
    check_plan_alone(click.get_current_context())
    pause, parent = chosen["follow"], chosen["parent"]
    if pause and (plan_file or dry_run):
        raise click.UsageError("--follow makes a plan of its own for each pass")
    parent = supervise(parent) if parent else None
    settings = load_settings(config, data=data)
    look = partial(looked_and_planned, source, chosen, settings, plan_file)
    if dry_run:
        _foresee(settings, look, chosen, as_json=as_json)
        return
    begun = None if pause else look()
    if begun and not refused(begun[0]) and all(entry.action is PlanAction.LEAVE for entry in begun[1]):
        raise Fatal("no tag there is chosen: nothing is taken in (what no tag leads to needs --untagged)")
    with audited_registry(data, config, alone=True) as (registry, _, record):
        passes = Passes(
            registry, settings, source, _manner(chosen), _existing(chosen), chosen["jobs"], record, parent
        )
        with stoppable(quiet=parent is not None) as stop:
            if begun is None:
                passes.follow(pause, stop, look, partial(tell_pass, as_json=as_json))
                return
            with journal.alone(settings.journals):
                name, outcomes = passes.run(*begun, stop)
    lost = 0 if plan_file else len(refused(begun[0]))
    again = len(journal.runs_over(settings.journals, source)) > 1
    tell(name, source, outcomes, lost=lost, again=again, as_json=as_json)


def _manner(chosen: Mapping[str, Any]) -> ImportOptions:
    return ImportOptions(LinkMode(chosen["link"]), bool(chosen["strict"]))


def _existing(chosen: Mapping[str, Any]) -> Existing:
    return Existing(chosen["existing"] or (Existing.NEWER if chosen["follow"] else Existing.SKIP))


def _foresee(
    settings: Settings, look: Callable[[], Looked], chosen: Mapping[str, Any], *, as_json: bool
) -> None:
    """Say what a run would do, and make nothing, not even a catalog if there is none yet."""
    found, entries = look()
    with existing_registry(settings) as registry:
        foreseen = foresee(found, entries, registry, _existing(chosen), settings.journals)
    tell_foreseen(foreseen, entries, as_json=as_json)


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
    """Compare SOURCE with what is here, tag by tag and layer by layer, whatever any run says it did.

    Ends with 0 if all chosen tags are here as they were there, 1 if one is not, cannot be, or none is chosen.
    What a --plan skips is accepted.
    """
    check_plan_alone(click.get_current_context())
    wire = serving(chosen)
    with prepared_registry(data, config, alone=True) as (registry, settings):
        found, entries = looked_and_planned(source, chosen, settings, plan_file)
        comparison, verdicts = found.comparison(registry, quick=quick), []
        over_http = HttpComparison(registry, comparison, wire, quick) if wire else None
        with progress("tags", sum(entry.action is PlanAction.IMPORT for entry in entries)) as advance:
            for verdict in compare(over_http or comparison, entries, chosen["jobs"]):
                verdicts.append(verdict)
                advance(1, 0)
    if over_http and over_http.v1_off:
        click.echo("V1 is off there, and was not compared.", err=True)
    wrong = any(verdict.problems for verdict in verdicts)
    lost = [entry for entry in entries if entry.action is PlanAction.SKIP]
    tell_verdicts(source, verdicts, lost, by_plan=bool(plan_file), as_json=as_json)
    if not verdicts or wrong or ((lost or refused(found)) and not plan_file):
        raise SystemExit(FINDINGS)
