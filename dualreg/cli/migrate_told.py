"""What the migration commands say."""

import json
from collections import Counter
from collections.abc import Sequence

import click

from dualreg.migrate.findings import HARMLESS, Finding, Kind
from dualreg.migrate.plan import Action, Entry
from dualreg.migrate.report import Report
from dualreg.migrate.run import Outcome, Status

#: How commands end, beside 0, and 2 of ``Fatal``.
FINDINGS, NOTHING = 1, 3


def counted(findings: Sequence[Finding]) -> str:
    """Return how many findings there are of each kind."""
    counts: Counter[Kind] = Counter(finding.kind for finding in findings)
    return ", ".join(
        f"{count} {kind}{' (harmless)' if kind in HARMLESS else ''}" for kind, count in counts.items()
    )


def tell_entries(entries: Sequence[Entry]) -> None:
    """Print what would be done with each tag that somebody wants."""
    for entry in entries:
        if entry.action is not Action.LEAVE:
            place = f" as {entry.to_repository}:{entry.to_tag}" if entry.action is Action.IMPORT else ""
            click.echo(f"{entry.name}: {entry.action}{place}{': ' * bool(entry.reason)}{entry.reason}")


def outlook(entries: Sequence[Entry]) -> str:
    """Say what a plan comes to."""
    counts = Counter(entry.action for entry in entries)
    return (
        f"{counts[Action.IMPORT]} tags would be taken in, {counts[Action.SKIP]} cannot be,"
        f" {counts[Action.LEAVE]} are not chosen."
    )


def counted_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Return how many tags there are of each status."""
    counts = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or "no tags"


def tell_report(told: Report) -> None:
    """Print what a run did."""
    for tag in told.tags:
        reason = f": {tag['reason']}" if tag["reason"] else ""
        click.echo(f"{tag['source']} -> {tag['repository']}:{tag['tag']} {tag['status']}{reason}")
    images, verified = told.layers
    click.echo(f"run {told.run} of {told.source}{'' if told.ended else ', which did not end'}")
    click.echo(", ".join(f"{count} {status}" for status, count in told.counts.items()) or "no tags")
    click.echo(f"{images} images taken in, {verified} of them proven whole by their checksums")


def tell(run_: str, source: str, outcomes: Sequence[Outcome], *, lost: int, as_json: bool) -> None:
    """Print how a run went; end with what it comes to.

    Args:
        lost: How much was refused by the source, so that nobody knows what it would have been.
    """
    counts = Counter(outcome.status for outcome in outcomes)
    bad = counts[Status.FAILED] + counts[Status.STOPPED] + lost
    here = counts[Status.DONE] + counts[Status.SAME]
    if as_json:
        tags = [
            {
                "tag": outcome.entry.name,
                "status": outcome.status,
                "reason": outcome.reason,
                "digest": outcome.digest,
            }
            for outcome in outcomes
        ]
        click.echo(json.dumps({"run": run_, "counts": counts, "tags": tags}, indent=2))
    else:
        for outcome in outcomes:
            if outcome.status in (Status.FAILED, Status.SKIPPED):
                click.echo(f"{outcome.entry.name}: {outcome.status}: {outcome.reason}")
        click.echo(counted_outcomes(outcomes))
        click.echo(f"Next:  dualreg migrate verify {source}   (and to undo: dualreg migrate rollback {run_})")
    if bad or counts[Status.SKIPPED]:
        raise SystemExit(FINDINGS if here else NOTHING)
