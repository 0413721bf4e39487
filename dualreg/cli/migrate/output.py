"""What the migration commands say."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import click

from dualreg.cli.migrate.hints import CHOSEN, HERE, THERE, command_line
from dualreg.cli.output import table
from dualreg.migrate.findings import HARMLESS, Finding, FindingKind
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.report import Report
from dualreg.migrate.run import Outcome, Status
from dualreg.migrate.verify import Verdict

#: How commands end, beside 0, and 2 of ``Fatal``.
FINDINGS, NOTHING = 1, 3


def counted(findings: Sequence[Finding]) -> str:
    """Return how many findings there are of each kind."""
    counts: Counter[FindingKind] = Counter(finding.kind for finding in findings)
    return ", ".join(
        f"{count} {kind}{' (harmless)' if kind in HARMLESS else ''}" for kind, count in counts.items()
    )


def outlook(entries: Sequence[Entry]) -> str:
    """Say what a plan comes to."""
    counts = Counter(entry.action for entry in entries)
    return (
        f"{counts[PlanAction.IMPORT]} tags would be taken in, {counts[PlanAction.SKIP]} cannot be,"
        f" {counts[PlanAction.LEAVE]} are not chosen."
    )


def tell_foreseen(
    foreseen: Mapping[Entry, Outcome | None], entries: Sequence[Entry], *, as_json: bool
) -> None:
    """Print what a run would do with each tag that somebody wants, and what all comes to."""
    tags = [
        {"tag": entry.name, "repository": entry.to_repository, "to_tag": entry.to_tag,
         "status": outcome.status if outcome else PlanAction.IMPORT,
         "reason": outcome.reason if outcome else ""}
        for entry, outcome in foreseen.items()
    ]  # fmt: skip
    counts = Counter(str(tag["status"]) for tag in tags)
    if as_json:
        click.echo(json.dumps({"dry_run": True, "counts": counts, "tags": tags}, indent=2))
        return
    for tag in tags:
        place = f" as {tag['repository']}:{tag['to_tag']}" if tag["status"] == PlanAction.IMPORT else ""
        click.echo(f"{tag['tag']}: {tag['status']}{place}{': ' * bool(tag['reason'])}{tag['reason']}")
    left = sum(entry.action is PlanAction.LEAVE for entry in entries)
    click.echo(
        f"{counts[PlanAction.IMPORT]} tags would be taken in, {counts[Status.SAME]} are here already,"
        f" {counts[Status.SKIPPED] + counts[Status.FAILED]} would not be, {left} are not chosen."
    )


def counted_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Return how many tags there are of each status."""
    return _counted(Counter(outcome.status for outcome in outcomes))


def tell_report(told: Report) -> None:
    """Print what a run did."""
    for tag in told.tags:
        reason = f": {tag['reason']}" if tag["reason"] else ""
        click.echo(f"{tag['source']} -> {tag['repository']}:{tag['tag']} {tag['status']}{reason}")
    verified = sum(bool(image["verified"]) for image in told.images)
    click.echo(f"run {told.run} of {told.source}{_fate(told)}")
    click.echo(_counted(told.counts))
    if told.images:
        click.echo(f"{len(told.images)} V1 images taken in, {verified} proven whole by their checksums")


def tell_runs(runs: Sequence[Report]) -> None:
    """Print a line for each run."""
    rows = [(told.run, told.at[:19], told.source, _counted(told.counts) + _fate(told)) for told in runs]
    table(("RUN", "BEGAN", "SOURCE", "TAGS"), rows)


def _fate(told: Report) -> str:
    return (", which did not end" * (not told.ended)) + (", taken out since" * told.undone)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or "no tags"


def tell_pass(run_: str, outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Print how a pass went, in a line."""
    click.echo(json.dumps(_told(run_, outcomes)) if as_json else f"run {run_}: {counted_outcomes(outcomes)}")


def _told(run_: str, outcomes: Sequence[Outcome]) -> Mapping[str, Any]:
    tags = [
        {"tag": each.entry.name, "status": each.status, "reason": each.reason, "digest": each.digest}
        for each in outcomes
    ]
    return {"run": run_, "counts": Counter(each.status for each in outcomes), "tags": tags}


def tell(
    run_: str, source: str, outcomes: Sequence[Outcome], *, lost: int, again: bool, as_json: bool
) -> None:
    """Print how a run went; end with what it comes to.

    Args:
        lost: How much was refused by the source, so that nobody knows what it would have been.
        again: Whether there were runs over that source before.
    """
    counts = Counter(outcome.status for outcome in outcomes)
    bad = counts[Status.FAILED] + counts[Status.STOPPED] + lost
    here = counts[Status.DONE] + counts[Status.SAME]
    if as_json:
        click.echo(json.dumps(_told(run_, outcomes), indent=2))
    else:
        for outcome in outcomes:
            if outcome.status in (Status.FAILED, Status.SKIPPED):
                click.echo(f"{outcome.entry.name}: {outcome.status}: {outcome.reason}")
        click.echo(counted_outcomes(outcomes))
        click.echo(f"Next:  {command_line(CHOSEN, 'verify', source)}")
        click.echo(f"To undo:  {command_line(HERE, 'rollback', run_)}")
        if again:
            click.echo(f"And earlier runs too:  {command_line(HERE, 'rollback', '--all', source)}")
    if bad or counts[Status.SKIPPED]:
        raise SystemExit(FINDINGS if here else NOTHING)


def tell_verdicts(
    source: str, verdicts: Sequence[Verdict], lost: Sequence[Entry], *, by_plan: bool, as_json: bool
) -> None:
    """Print what was found of tags here, and which could not come here, or were not to, *by_plan*."""
    wrong = [verdict for verdict in verdicts if verdict.problems]
    if as_json:
        told = {
            "verified": len(verdicts) - len(wrong),
            "wrong": {verdict.entry.name: verdict.problems for verdict in wrong},
            "skipped": {entry.name: entry.reason for entry in lost},
        }
        click.echo(json.dumps(told, indent=2))
        return
    for verdict in wrong:
        for problem in verdict.problems:
            click.echo(f"{verdict.entry.name}: {problem}")
    click.echo(f"{len(verdicts) - len(wrong)} of {len(verdicts)} tags are here as they were there.")
    if not verdicts:
        click.echo("Nothing was compared: no tag there is chosen that can be here.")
    if lost and by_plan:
        click.echo(f"{len(lost)} more are skipped by the plan.")
    elif lost:
        click.echo(f"{len(lost)} more cannot be taken in: {command_line(THERE, 'inspect', source)}")
