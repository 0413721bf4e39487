"""``dualreg retention``: which tags stay, by rules, and the deletion of the others."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event

import click

from dualreg.assembly import catalog_of, writes_of
from dualreg.catalog.leading import Duty
from dualreg.catalog.retention import RetentionRule
from dualreg.cli.admin import Record, audited_registry
from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import Columns, echo, echo_json, minute, table
from dualreg.cli.paced import paced
from dualreg.cli.progress import interruptible, progress, stoppable
from dualreg.cli.readonly import require_changeable
from dualreg.cli.turns import Task, run_scheduled
from dualreg.image.names import RepositoryName, Tag
from dualreg.maintenance.retention import Retained, RetentionRun
from dualreg.messages import counted
from dualreg.operations.retention import (
    TagVerdict,
    Verdicts,
    clause_text,
    rule_clauses,
    rule_pattern,
    rule_text,
)
from dualreg.patterns import check_pattern
from dualreg.registry import Registry
from dualreg.registry.retention import parse_patterns
from dualreg.registry.verdicts import Clause, Keep, Verdict
from dualreg.settings import Settings
from dualreg.settings.schedules import Timing
from dualreg.settings.values import format_duration, parse_duration

#: Tags that are judged at a time.
_PAGE = 200
_HEADINGS = ("TAG", "PUSHED", "PULLED", "STAYS", "WHY")


@click.group()
def retention() -> None:
    """Manage the rules that say which tags stay.

    A tag that matches a rule is deleted, unless a clause of any rule that it matches keeps it. Tags that
    match no rule stay.
    """


def _duration(_: click.Context, option: click.Parameter, text: str | None) -> timedelta | None:
    try:
        return parse_duration(text) if text else None
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from error


@retention.command()
@click.argument("pattern")
@click.option("--newest", type=int, metavar="N", help="Keep the N tags of each repository pushed last.")
@click.option("--younger-than", callback=_duration, metavar="AGE", help="Keep tags pushed within AGE (30d).")
@click.option("--pulled-within", callback=_duration, metavar="AGE", help="Keep tags pulled within AGE (90d).")
@click.option("--matching", multiple=True, metavar="TAG", help="Keep tags that match TAG. Repeatable.")
@settings_options
def add(
    pattern: str, data: Path | None, config: Path | None, *, newest: int | None,
    younger_than: timedelta | None, pulled_within: timedelta | None, matching: tuple[str, ...],
) -> None:  # fmt: skip
    """Add a rule for the tags that match PATTERN.

    PATTERN is REPOSITORY[:TAG], in which * matches anything: team/* is for all tags, team/*:pr-* for some.
    Each option keeps tags; a tag stays if one of them keeps it. A push counts as a pull.
    """
    with administration(data, config, changes=True, alone=True) as admin:
        rule = admin.retention.add(
            pattern,
            newest=newest,
            younger_than=younger_than,
            pulled_within=pulled_within,
            matching=matching,
        )
    echo(f"Added the rule {rule_text(rule)}.")
    if newest is None and not matching:
        echo("Warning: without --newest, an unused repository loses all of these tags.", err=True)
    echo("Show what it deletes:  dualreg retention run --dry-run")


@retention.command("list")
@json_option
@settings_options
def list_rules(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the rules."""
    with administration(data, config, alone=True) as admin:
        rules = admin.retention.list()
    if as_json:
        echo_json([_document(rule) for rule in rules])
        return
    table(("PATTERN", "KEEPS"), [(rule_pattern(rule), ", ".join(rule_clauses(rule))) for rule in rules])
    echo(
        f"{counted(len(rules), 'rule')}." if rules else "No rules. Add one:  dualreg retention add PATTERN …"
    )


@retention.command()
@click.argument("pattern")
@settings_options
def remove(pattern: str, data: Path | None, config: Path | None) -> None:
    """Remove the rule for PATTERN."""
    with administration(data, config, changes=True, alone=True) as admin:
        admin.retention.remove(pattern)
    repositories, tags = parse_patterns(pattern)
    echo(f"Removed the rule for {repositories}:{tags}.")


@retention.command()
@click.argument("reference", metavar="REPOSITORY[:TAG]")
@json_option
@settings_options
def explain(reference: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Explain which rule keeps or deletes a tag, and until when it stays.

    Without TAG, all tags of the repository are listed. With --json, each tag is one line.
    """
    name, _, tag = reference.partition(":")
    with administration(data, config) as admin, interruptible():
        chosen = Tag.parse(tag) if tag else None
        read = partial(admin.retention.explain, RepositoryName.parse(name), chosen)
        _explain(read, as_json=as_json)


def _explain(read: Callable[..., Verdicts], *, as_json: bool) -> None:
    """Print what becomes of tags, page by page."""
    columns, page = Columns(*_HEADINGS), read(n=_PAGE)
    if page.upstream:
        text = f"No rules apply: the content is from {page.upstream}. See keep in docs/upstreams.md."
        echo(text, err=True)
    while True:
        if not as_json:
            columns.add([_cells(each) for each in page.rows])
        for each in page.rows if as_json else ():
            echo_json(_explained(each), indent=None)
        if page.next is None:
            return
        page = read(n=_PAGE, after=page.next)


def _cells(row: TagVerdict) -> tuple[str, ...]:
    """Return the columns of ``explain``."""
    stays = f"until {minute(row.until)}" if row.until else "yes" if row.stays else "no"
    pulled = minute(row.pulled_at) if row.pulled_at else "never"
    return (row.tag, minute(row.pushed_at), pulled, stays, _why(row))


def _explained(row: TagVerdict) -> dict[str, object]:
    kept = [
        {"clause": keep.clause, "rule": rule_pattern(keep.rule) if keep.rule else None, "until": keep.until}
        for keep in row.keeps
    ]
    return {
        "tag": row.tag,
        "digest": row.digest,
        "pushed_at": row.pushed_at,
        "pulled_at": row.pulled_at,
        "stays": row.stays,
        "until": row.until,
        "rules": [rule_pattern(rule) for rule in row.rules],
        "kept_by": kept,
    }


@retention.command()
@click.argument("pattern", default="*")
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted.")
@click.option(
    "--scheduled", is_flag=True, hidden=True, help="Run for the server, as retention_schedule says."
)
@json_option
@settings_options
def run(
    pattern: str, data: Path | None, config: Path | None, *, dry_run: bool, scheduled: bool, as_json: bool
) -> None:
    """Delete the tags that no rule keeps, in the repositories that match PATTERN.

    Manifests and blobs stay until the garbage is collected; manifests without a tag stay for as long as
    gc_untagged gives. Safe while the registry is serving, which does the same by retention_schedule. With
    --json, each tag is one line.
    """
    if scheduled:
        run_scheduled(TASK, data, config)
        return
    try:
        check_pattern(pattern)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    with (
        audited_registry(data, config) as (registry, settings, record),
        stoppable() as stop,
        progress("repositories", registry.retention.count(), unit="tags") as advance,
    ):
        if not dry_run:
            require_changeable(settings)
        listing = _Deleted(None if dry_run else record, as_json=as_json)
        pace = _until(
            stop, paced(settings, writes_of(settings, catalog_of(registry)), dry_run=dry_run, gently=True)
        )
        result = RetentionRun(registry, pattern, dry_run, listing.add, advance, pace).run()
        if not (result.complete or stop.is_set()):
            require_changeable(settings)
    if not as_json:
        _summarize(result, settings, dry_run=dry_run)


def _work(registry: Registry, settings: Settings, record: Record, window: str) -> str:
    """Delete tags as a task."""
    writes = writes_of(settings, catalog_of(registry))
    pace, deleted = paced(settings, writes, window=window, gently=True), _Deleted(record)
    result = RetentionRun(registry, deleted=deleted.add, pace=pace).run()
    text = f"deleted {counted(result.deleted, 'tag')} of {result.tags}"
    return text if result.complete else f"{text}; stopped before the end"


#: The runs of the server.
TASK = Task(
    "retention",
    Duty.RETENTION,
    lambda settings: Timing(settings.retention_schedule),
    _work,
    alone=False,
)


def _until(stop: Event, pace: Callable[[int], bool]) -> Callable[[int], bool]:
    return lambda count: pace(count) and not stop.is_set()


class _Deleted:
    """Lists tags that were deleted, and records them in the audit log."""

    def __init__(self, record: Record | None, *, as_json: bool | None = None) -> None:
        """Do not record anything if *record* is None, in a dry run; list nothing if *as_json* is None."""
        self._record, self._as_json = record, as_json
        self._columns = Columns("TAG", "PUSHED", "PULLED", "RULE")

    def add(self, repository: RepositoryName, verdicts: Sequence[Verdict]) -> None:
        """List some tags of a repository."""
        for verdict in verdicts:
            tag, rules = verdict.tag, [rule_text(rule) for rule in verdict.rules]
            placed = {"repository": repository, "tag": tag.name, "digest": f"{tag.digest}"}
            pulled = tag.pulled_at.isoformat() if tag.pulled_at else None
            times = {"pushed_at": tag.pushed_at.isoformat(), "pulled_at": pulled}
            if self._record:
                reason = f"not kept by {'; '.join(rules)}"
                self._record("retention run", **placed, **times, reason=reason)
            if self._as_json is None:
                continue
            if self._as_json:
                echo_json(placed | times | {"rules": rules}, indent=None)
            else:
                self._columns.add(
                    [
                        (
                            f"{repository}:{tag.name}",
                            minute(tag.pushed_at),
                            minute(tag.pulled_at) if tag.pulled_at else "never",
                            "; ".join(rules),
                        )
                    ]
                )


def _summarize(result: Retained, settings: Settings, *, dry_run: bool) -> None:
    of = f"of {result.tags} in {counted(result.repositories, 'repository', 'repositories')} with rules"
    echo(f"{'Would delete' if dry_run else 'Deleted'} {counted(result.deleted, 'tag')} {of}.")
    if result.changed:
        echo(f"{counted(result.changed, 'tag')} changed meanwhile, or newer ones did; run it again.")
    if not result.complete:
        echo("Stopped before the end; run it again.")
    if result.deleted and settings.gc_untagged is None:
        echo("Their images stay, by digest, and take room: manifests without a tag are kept (gc_untagged).")


def _why(row: TagVerdict) -> str:
    if not row.rules:
        return "no rule matches it"
    if not row.stays:
        return f"not kept by {'; '.join(map(rule_text, row.rules))}"
    return "; ".join(dict.fromkeys(map(_kept, row.keeps)))


def _kept(keep: Keep) -> str:
    if keep.rule is None:
        return "it is immutable" if keep.clause is Clause.IMMUTABLE else "its image is in the repository"
    return f"{rule_pattern(keep.rule)} keeps {clause_text(keep.rule, keep.clause)}"


def _document(rule: RetentionRule) -> dict[str, object]:
    """Return a rule for programs: durations as they are given."""
    durations = {"younger_than": rule.younger_than, "pulled_within": rule.pulled_within}
    return asdict(rule) | {name: each and format_duration(each) for name, each in durations.items()}
