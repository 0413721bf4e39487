"""``dualreg migrate``: inspect, plan, run, and verify; the rest is in ``history`` and ``states``."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TextIO, Unpack

import click

from dualreg.assembly import writes_of
from dualreg.cli.admin import audited_registry, existing_registry, prepared_registry
from dualreg.cli.background import end_with
from dualreg.cli.command import Option
from dualreg.cli.failures import Fatal, MigrateGroup
from dualreg.cli.migrate.following import alone, follow
from dualreg.cli.migrate.history import report, rollback
from dualreg.cli.migrate.options import (
    HttpValues,
    ImportValues,
    SourceValues,
    check_plan_exclusive,
    duration,
    http_client,
    jobs_option,
    next_without_pulled,
    password_file_option,
    selection_options,
    source_options,
    survey,
    survey_and_plan,
    without_pulled,
)
from dualreg.cli.migrate.output import (
    EXIT_FINDINGS,
    SOURCE_OPTIONS,
    command_line,
    counted_findings,
    print_foreseen,
    print_plan_summary,
    print_result,
    print_verdicts,
)
from dualreg.cli.migrate.reading import ReadingValues, list_unreadable
from dualreg.cli.migrate.space import WARNINGS, print_warnings, space_for, warn_of_shortage
from dualreg.cli.migrate.states import runs, status
from dualreg.cli.options import json_option, load_settings, settings_options
from dualreg.cli.output import echo, echo_json
from dualreg.cli.progress import Advance, progress, stoppable
from dualreg.cli.readability import platform_option, readers_option
from dualreg.cli.readonly import require_writable
from dualreg.migrate import journal
from dualreg.migrate.base import ImportOptions
from dualreg.migrate.follow import Passes, Planned, foresee
from dualreg.migrate.plan import PlanAction, write_plan
from dualreg.migrate.run import Existing
from dualreg.migrate.selection import Selection, plan_and_losses
from dualreg.migrate.transfer import LinkMode
from dualreg.migrate.verify import verify as compare
from dualreg.migrate.verify_http import HttpComparison
from dualreg.settings import Settings


class _InspectValues(SourceValues, ReadingValues):
    """The values of the options of ``inspect`` beyond its output."""


class _RunValues(ImportValues):
    """The values of the options of ``run`` beyond its output."""

    link: str
    existing: str | None
    strict: bool
    follow: timedelta | None
    parent: int | None


class _VerifyValues(ImportValues, HttpValues):
    """The values of the options of ``verify`` beyond its output."""


@click.group(cls=MigrateGroup, commands=[report, rollback, runs, status])
def migrate() -> None:
    """Import the content of another registry.

    Files and streams are imported directly, without docker pull or docker push.

    \b
    SOURCE is one of:
      v1-tree:PATH           storage of docker-registry 0.5 to 0.9, or its
                             configuration file (see --flavor)
      registry-tree:PATH     storage of the reference registry
      oci-layout:PATH        OCI image layout
      volumes:PATH           OCI image layout in tar archives, and an inventory
      docker-archive:FILE    output of docker save
      v1+http(s)://HOST[/REPOSITORY], v2+http(s)://HOST[/REPOSITORY]
                             remote registry

    The source is never modified.
    """  # noqa: D301 -- \b makes click keep the lines of a paragraph


@migrate.command()
@click.argument("source")
@source_options
@click.option("--deep", cls=Option, section="Inspection", is_flag=True, help="Also read every layer.")
@readers_option(required=False, section="Inspection")
@platform_option("Inspection")
@jobs_option("Inspection")
@json_option
@settings_options
def inspect(
    source: str, data: Path | None, config: Path | None, *, deep: bool, as_json: bool,
    **given: Unpack[_InspectValues],
) -> None:  # fmt: skip
    """Inspect SOURCE: what it contains, and what is wrong with it.

    With --for, the tags are listed that clients cannot read as they are stored in SOURCE, and what this
    registry makes of them after an import.

    Exit status: 0 if nothing is wrong, 1 otherwise, 2 if the source cannot be read.
    """
    settings = load_settings(data=data, config=config)
    found = survey(source, given, settings)
    selection = Selection(library=found.default_library)
    entries, lost = plan_and_losses(found, selection)
    findings = [*found.findings, *lost]
    if deep:
        with progress("layers", found.blob_count, found.blob_bytes) as advance:
            findings += found.check_blobs(given["jobs"], advance)
    space = space_for(found, entries, settings)
    numbers = {**found.counts(), "copy_bytes": space["copy_bytes"], "copy_inodes": space["copy_inodes"]}
    reading = partial(list_unreadable, found, entries, given, given["jobs"], as_json=as_json)
    listing, unreadable = reading() if given["readers"] else (None, [])
    if as_json:
        more = {"unreadable": unreadable} if listing else {}
        echo_json({**numbers, **space, "findings": [asdict(each) for each in findings], **more})
    else:
        if listing:
            echo(listing)
        print_warnings(space[WARNINGS])
        for finding in findings:
            echo(finding)
        for name, value in numbers.items():
            echo(f"{name.replace('_', ' ')}: {value}")
        echo(f"findings: {counted_findings(findings)}" if findings else "no problems found")
        echo(f"Next:  {command_line(SOURCE_OPTIONS, 'run', source, '--dry-run')}")
    if findings or unreadable:
        raise SystemExit(EXIT_FINDINGS)


@migrate.command()
@click.argument("source")
@source_options
@selection_options
@jobs_option("Output")
@click.option("-o", "--output", cls=Option, section="Output", type=click.Path(), default="-", metavar="FILE",
              help="Write to FILE instead of standard output.")  # fmt: skip
@click.option("--json", "as_json", cls=Option, section="Output", is_flag=True,
              help="Print the summary as JSON, on standard error without --output.")  # fmt: skip
@settings_options
def plan(
    source: str,
    data: Path | None,
    config: Path | None,
    output: str,
    *,
    as_json: bool,
    **given: Unpack[ImportValues],
) -> None:
    """Write a plan: what run would do, as one line of JSON per tag.

    Edit the plan if you like, and pass it to run with --plan. The summary says how much disk space the import
    takes.

    Exit status: 0 if every selected tag can be imported, 1 otherwise, 2 if the source cannot be read.
    """
    settings = load_settings(data=data, config=config)
    found, entries = survey_and_plan(source, given, settings, dated=True)
    with click.open_file(output, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in write_plan(entries))
    print_plan_summary(
        entries,
        space_for(found, entries, settings),
        as_json=as_json,
        err=not as_json or output == "-",
    )
    if any(entry.action is PlanAction.SKIP for entry in entries):
        raise SystemExit(EXIT_FINDINGS)


@migrate.command()
@click.argument("source")
@source_options
@selection_options
@click.option(
    "--plan",
    "plan_file",
    cls=Option,
    section="Selection",
    type=click.File(),
    metavar="FILE",
    help="Import the plan in FILE, as written by migrate plan.",
)
@click.option(
    "--link",
    cls=Option,
    section="Import",
    type=click.Choice([str(mode) for mode in LinkMode]),
    default="auto",
    show_default=True,
    help="Choose how to store files of the old registry. hard: share them with the old registry, which"
    " must never run again; auto: share blocks if the file system can; copy: copy the bytes.",
)
@click.option(
    "--existing",
    cls=Option,
    section="Import",
    type=click.Choice([str(each) for each in Existing]),
    help="Choose what to do with tags that already exist and point to another image."
    "  [default: skip; with --follow: newer]",
)
@click.option(
    "--strict",
    cls=Option,
    section="Import",
    is_flag=True,
    help="Refuse images that are marked as being pushed, even if they are complete.",
)
@jobs_option("Import")
@click.option(
    "--follow",
    cls=Option,
    section="Import",
    callback=duration,
    metavar="DURATION",
    help="Keep running, and import new and newer tags every DURATION, such as 10m.",
)
@click.option("--parent", type=int, hidden=True, help="End with the process of this ID.")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@json_option
@settings_options
def run(
    source: str, data: Path | None, config: Path | None, *, dry_run: bool, as_json: bool,
    plan_file: TextIO | None, **given: Unpack[_RunValues],
) -> None:  # fmt: skip
    """Import the tags of SOURCE.

    Safe to interrupt at any time: run it again, and it resumes.

    Exit status: 0 if every selected tag is imported, 1 if some are, 3 if none is, 2 if the run could not
    start or continue.
    """
    pause, parent, link = given["follow"], given["parent"], LinkMode(given["link"])
    _check_combination(pause, plan_file, dry_run=dry_run)
    end_with(parent)
    settings = load_settings(config, data=data)
    existing = Existing(given["existing"] or (Existing.NEWER if pause else Existing.SKIP))
    dated = existing is Existing.NEWER or bool(pause)
    next_plan = partial(survey_and_plan, source, given, settings, plan_file, dated=dated, quiet=bool(pause))
    if dry_run:
        _print_dry_run(settings, next_plan, existing, link, as_json=as_json)
        return
    next_plan = partial(_when_writable, settings, next_plan)
    planned = None if pause else _require_selected(next_plan())
    opened = audited_registry(data, config, alone=True, create=True, rebuild=True, announce=not parent)
    with opened as (registry, _, record):
        passes = Passes(
            registry, settings.journals, source, ImportOptions(link, given["strict"]),
            existing, given["jobs"], record, partial(_tag_progress, quiet=bool(parent)),
            partial(warn_of_shortage, settings=settings), writes_of(settings).require,
        )  # fmt: skip
        with stoppable(quiet=bool(parent)) as stop:
            if planned is None:
                with alone(registry, stop) if parent else nullcontext():
                    plans = partial(next_without_pulled, next_plan, settings, registry)
                    follow(passes, pause, stop, plans, background=bool(parent), as_json=as_json)
                return
            with journal.exclusive(settings.journals):
                name, outcomes = passes.run(*without_pulled(planned, settings, registry), stop)
    again = len(journal.runs_over(settings.journals, source)) > 1
    print_result(name, source, outcomes, again=again, refusal=passes.refusal, as_json=as_json)


def _check_combination(pause: timedelta | None, plan: TextIO | None, *, dry_run: bool) -> None:
    """Refuse ``--plan`` beside options that select tags, and ``--follow`` beside those for one pass.

    Raises:
        click.UsageError.
    """
    check_plan_exclusive(click.get_current_context())
    if pause and (plan or dry_run):
        raise click.UsageError("--follow cannot be combined with --plan or --dry-run")


def _when_writable(settings: Settings, next_plan: Callable[[], Planned]) -> Planned:
    """Return the next plan.

    Raises:
        click.ClickException: the registry is read-only, or its disk nearly full.
    """
    require_writable(settings)
    return next_plan()


def _require_selected(planned: Planned) -> Planned:
    """Return *planned* unless it selects no tag.

    Raises:
        Fatal: it does not.
    """
    if all(entry.action is PlanAction.LEAVE for entry in planned[1]):
        raise Fatal("no tag is selected in the source; select untagged images with --untagged")
    return planned


def _tag_progress(tags: int, size: int, *, quiet: bool) -> AbstractContextManager[Advance]:
    return progress("tags", tags, size, quiet=quiet)


def _print_dry_run(
    settings: Settings,
    next_plan: Callable[[], Planned],
    existing: Existing,
    link: LinkMode,
    *,
    as_json: bool,
) -> None:
    """Print what a run would do; create nothing, not even the catalog."""
    planned = next_plan()
    with existing_registry(settings) as registry:
        found, entries = without_pulled(planned, settings, registry)
        foreseen = foresee(found, entries, registry, existing, settings.journals)
    left = [entry for entry, outcome in foreseen.items() if outcome is None]
    print_foreseen(foreseen, entries, space_for(found, left, settings, link), as_json=as_json)


@migrate.command()
@click.argument("source")
@source_options
@selection_options
@click.option(
    "--plan",
    "plan_file",
    cls=Option,
    section="Selection",
    type=click.File(),
    metavar="FILE",
    help="Compare the tags of the plan in FILE, as written by migrate plan.",
)
@click.option(
    "--quick",
    cls=Option,
    section="Comparison",
    is_flag=True,
    help="Compare sizes instead of reading every layer.",
)
@click.option(
    "--http",
    cls=Option,
    section="Comparison",
    metavar="URL",
    help="Also compare what clients receive from the registry at URL.",
)
@click.option("--http-user", cls=Option, section="Comparison", help="Log in at URL as this user.")
@password_file_option("--http-password-file", "Comparison", "Read the password for URL from FILE.")
@jobs_option("Comparison")
@json_option
@settings_options
def verify(
    source: str, data: Path | None, config: Path | None, *, quick: bool, as_json: bool,
    plan_file: TextIO | None, **given: Unpack[_VerifyValues],
) -> None:  # fmt: skip
    """Compare SOURCE with this registry.

    Every tag and every layer is compared, regardless of what runs have recorded.

    Exit status: 0 if all selected tags match, 1 if one differs or could not be imported, or if none is
    selected. What a plan skips is accepted.
    """
    check_plan_exclusive(click.get_current_context())
    client = http_client(given)
    with prepared_registry(data, config, alone=True) as (registry, settings):
        planned = survey_and_plan(source, given, settings, plan_file)
        found, entries = without_pulled(planned, settings, registry)
        comparison, verdicts = found.comparison(registry, quick=quick), []
        found.forget()
        over_http = HttpComparison(registry, comparison, client, quick) if client else None
        with progress("tags", sum(entry.action is PlanAction.IMPORT for entry in entries)) as advance:
            for verdict in compare(over_http or comparison, entries, given["jobs"]):
                verdicts.append(verdict)
                advance(1, 0)
    if over_http and over_http.v1_off:
        echo(f"V1 is off at {given['http']}; V1 responses were not compared.", err=True)
    lost = [entry for entry in entries if entry.action is PlanAction.SKIP]
    print_verdicts(source, verdicts, lost, by_plan=bool(plan_file), as_json=as_json)
    if not verdicts or any(each.problems for each in verdicts) or (lost and not plan_file):
        raise SystemExit(EXIT_FINDINGS)
