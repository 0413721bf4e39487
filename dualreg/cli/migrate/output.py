"""Output of the migration commands, and the command lines that they propose."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from dualreg.cli.failures import ARGUMENTS, Fatal
from dualreg.cli.migrate.space import WARNINGS, print_warnings
from dualreg.cli.output import echo, echo_json, table
from dualreg.messages import counted
from dualreg.migrate.findings import HARMLESS, Finding, FindingKind
from dualreg.migrate.plan import Entry, PlanAction, full_name
from dualreg.migrate.report import Report
from dualreg.migrate.run import Outcome, Status
from dualreg.migrate.verify import Verdict

#: Exit statuses besides 0 and the 2 of ``Fatal``: part of the work failed, all of it did.
EXIT_FINDINGS, EXIT_NOTHING = 1, 3
#: Options that choose this registry, the source, and tags of the source; by the names of their parameters.
REGISTRY_OPTIONS = ("data", "config")
SOURCE_OPTIONS = (
    *REGISTRY_OPTIONS, "flavor", "repository", "user", "password_file", "ca", "token_servers",
    "redirect_hosts",
)  # fmt: skip
SELECTION_OPTIONS = (
    "include", "exclude", "listed", "since", "latest", "shard", "library", "mapping", "untagged",
)  # fmt: skip
ALL_OPTIONS = (*SOURCE_OPTIONS, *SELECTION_OPTIONS, "plan_file")


def command_line(names: tuple[str, ...], *words: str) -> str:
    """Return the command line ``dualreg migrate *words*`` with those options in *names* that were given."""
    return shlex.join(["dualreg", "migrate", *words, *_given(click.get_current_context(), names)])


def _given(context: click.Context, names: tuple[str, ...]) -> Iterator[str]:
    """Yield options as they were typed; not those from the environment, which the next command has too."""
    values, _, parameters = context.command.make_parser(context).parse_args([*context.meta[ARGUMENTS]])
    for option in dict.fromkeys(parameters):
        if not isinstance(option, click.Option) or option.name not in names or option.name not in values:
            continue
        value = values[option.name]
        for each in value if isinstance(value, list) else [value]:
            yield option.opts[0]
            if not option.is_flag:
                yield str(each)


def counted_findings(findings: Sequence[Finding]) -> str:
    """Return how many findings there are of each kind."""
    counts: Counter[FindingKind] = Counter(finding.kind for finding in findings)
    return ", ".join(
        f"{count} {kind}{' (harmless)' if kind in HARMLESS else ''}" for kind, count in counts.items()
    )


def counted_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Return how many tags there are of each status."""
    return _counted(Counter(outcome.status for outcome in outcomes))


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or "no tags"


def print_plan_summary(
    entries: Sequence[Entry], space: Mapping[str, Any], *, as_json: bool, err: bool
) -> None:
    """Print how many tags a plan imports, and what space that takes.

    Args:
        space: As ``space_for`` returns it.
        err: On standard error.
    """
    counts = Counter(entry.action for entry in entries)
    if as_json:
        named = {action: counts[action] for action in PlanAction}
        echo_json({"counts": named, **space}, err=err)
        return
    echo(
        f"{counted(counts[PlanAction.IMPORT], 'tag')} would be imported,"
        f" {counts[PlanAction.SKIP]} cannot be imported, {counts[PlanAction.LEAVE]} not selected.",
        err=err,
    )
    print_warnings(space[WARNINGS])


def print_foreseen(
    foreseen: Mapping[Entry, Outcome | None],
    entries: Sequence[Entry],
    space: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """Print what a run would do with each selected tag, and totals.

    Args:
        space: As ``space_for`` returns it.
    """
    tags = [
        {"tag": entry.name, "repository": entry.to_repository, "to_tag": entry.to_tag,
         "status": outcome.status if outcome else PlanAction.IMPORT,
         "reason": outcome.reason if outcome else ""}
        for entry, outcome in foreseen.items()
    ]  # fmt: skip
    counts = Counter(str(tag["status"]) for tag in tags)
    if as_json:
        echo_json({"dry_run": True, "counts": counts, **space, "tags": tags})
        return
    for tag in tags:
        name = full_name(tag["repository"], tag["to_tag"], "")
        place = f" as {name}" if tag["status"] == PlanAction.IMPORT else ""
        echo(f"{tag['tag']}: {tag['status']}{place}{': ' * bool(tag['reason'])}{tag['reason']}")
    left = sum(entry.action is PlanAction.LEAVE for entry in entries)
    echo(
        f"{counted(counts[PlanAction.IMPORT], 'tag')} would be imported, {counts[Status.SAME]} already exist,"
        f" {counts[Status.SKIPPED] + counts[Status.FAILED]} would be skipped or fail, {left} not selected."
    )
    print_warnings(space[WARNINGS])


def print_report(report: Report) -> None:
    """Print what a run did."""
    for tag in report.tags:
        reason = f": {tag['reason']}" if tag["reason"] else ""
        name = full_name(tag["repository"], tag["tag"], "")
        echo(f"{tag['source']} -> {name} {tag['status']}{reason}")
    verified = sum(bool(image["verified"]) for image in report.images)
    echo(f"run {report.run} of {report.source}{_ending(report)}")
    echo(_counted(report.counts))
    if report.images:
        echo(f"{counted(len(report.images), 'V1 image')} imported, {verified} verified by checksum")


def print_runs(runs: Sequence[Report]) -> None:
    """Print a line for each run."""
    rows = [(run.run, run.at[:19], run.source, _counted(run.counts) + _ending(run)) for run in runs]
    table(("RUN", "STARTED", "SOURCE", "TAGS"), rows)


def _ending(report: Report) -> str:
    return (", interrupted" * report.unfinished) + (", rolled back" * report.undone)


def print_pass(run_: str, outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Print the result of a pass in one line."""
    if as_json:
        echo_json(_result(run_, outcomes), indent=None)
    else:
        echo(f"run {run_}: {counted_outcomes(outcomes)}")


def _result(run_: str, outcomes: Sequence[Outcome]) -> Mapping[str, Any]:
    tags = [
        {"tag": each.entry.name, "status": each.status, "reason": each.reason, "digest": each.digest}
        for each in outcomes
    ]
    return {"run": run_, "counts": Counter(each.status for each in outcomes), "tags": tags}


def print_result(
    run_: str, source: str, outcomes: Sequence[Outcome], *, again: bool, refusal: str, as_json: bool
) -> None:
    """Print the result of a run, and exit with the status that it deserves.

    Args:
        again: Whether there are earlier runs over that source.
        refusal: Why the registry took no more content; empty: it did.

    Raises:
        Fatal: there was a refusal.
        SystemExit: a tag is missing: with 1, or with 3 if all are.
    """
    if as_json:
        echo_json(_result(run_, outcomes))
    else:
        for outcome in outcomes:
            if outcome.status in (Status.FAILED, Status.SKIPPED):
                echo(f"{outcome.entry.name}: {outcome.status}: {outcome.reason}")
        echo(counted_outcomes(outcomes))
        echo(f"Next:  {command_line(ALL_OPTIONS, 'verify', source)}")
        echo(f"To undo:  {command_line(REGISTRY_OPTIONS, 'rollback', run_)}")
        if again:
            echo(f"To undo earlier runs too:  {command_line(REGISTRY_OPTIONS, 'rollback', '--all', source)}")
    if refusal:
        raise Fatal(f"stopped: {refusal}; run the command again to resume")
    exit_with(Counter(outcome.status for outcome in outcomes))


def exit_with(counts: Mapping[str, int], *, unfinished: bool = False) -> None:
    """Exit with the status that a run deserves, unless that is 0.

    Args:
        counts: The number of tags of each status.
        unfinished: Whether the run was stopped, so that tags may be missing from *counts*.

    Raises:
        SystemExit: a tag is missing: with 1, or with 3 if all are.
    """
    if unfinished or any(counts.get(each) for each in (Status.FAILED, Status.STOPPED, Status.SKIPPED)):
        present = any(counts.get(each) for each in (Status.DONE, Status.SAME))
        raise SystemExit(EXIT_FINDINGS if present else EXIT_NOTHING)


def print_verdicts(
    source: str, verdicts: Sequence[Verdict], lost: Sequence[Entry], *, by_plan: bool, as_json: bool
) -> None:
    """Print the differences that were found.

    Args:
        lost: Tags that were not compared, as they could not be imported, or, *by_plan*, were not to be.
    """
    wrong = [verdict for verdict in verdicts if verdict.problems]
    if as_json:
        result = {
            "verified": len(verdicts) - len(wrong),
            "wrong": {verdict.entry.name: verdict.problems for verdict in wrong},
            "skipped": {entry.name: entry.reason for entry in lost},
        }
        echo_json(result)
        return
    for verdict in wrong:
        for problem in verdict.problems:
            echo(f"{verdict.entry.name}: {problem}")
    echo(f"{len(verdicts) - len(wrong)} of {counted(len(verdicts), 'tag')} match the source.")
    if not verdicts:
        echo("Nothing was compared: no tag that can be imported is selected.")
    if lost and by_plan:
        echo(f"The plan skips {counted(len(lost), 'more tag')}.")
    elif lost:
        echo(f"{counted(len(lost), 'more tag')} cannot be imported. To see why:")
        echo(f"  {command_line(SOURCE_OPTIONS, 'inspect', source)}")
