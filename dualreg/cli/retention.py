"""``dualreg retention``: which tags stay, by rules, and the deletion of the others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from threading import Event

import click

from dualreg.assembly import catalog_of, writes_of
from dualreg.catalog.leading import Duty
from dualreg.catalog.retention import RetentionRule
from dualreg.cli.admin import Record, audited_registry, prepared_registry
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import Columns, counted, echo, echo_json, minute, table
from dualreg.cli.paced import paced
from dualreg.cli.progress import interruptible, progress, stoppable
from dualreg.cli.readonly import require_changeable
from dualreg.cli.turns import Task, run_scheduled
from dualreg.errors import RegistryError, TagUnknown
from dualreg.image.names import RepositoryName, Tag
from dualreg.maintenance.retention import Retained, RetentionRun
from dualreg.patterns import check_pattern
from dualreg.registry import Registry
from dualreg.registry.retention import parse_patterns
from dualreg.registry.verdicts import Clause, Keep, Verdict
from dualreg.settings import Settings
from dualreg.settings.schedules import Timing
from dualreg.settings.values import format_duration, parse_duration

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
    try:
        rule = RetentionRule(*parse_patterns(pattern), newest, younger_than, pulled_within, matching)
        with audited_registry(data, config, alone=True) as (registry, _, record):
            registry.retention.add(rule)
            record("retention add", rule=_text(rule))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    echo(f"Added the rule {_text(rule)}.")
    if newest is None and not matching:
        echo("Warning: without --newest, an unused repository loses all of these tags.", err=True)
    echo("Show what it deletes:  dualreg retention run --dry-run")


@retention.command("list")
@json_option
@settings_options
def list_rules(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the rules."""
    with prepared_registry(data, config, alone=True) as (registry, _):
        rules = registry.retention.rules()
    if as_json:
        echo_json([_document(rule) for rule in rules])
        return
    table(("PATTERN", "KEEPS"), [(_pattern(rule), ", ".join(_clauses(rule))) for rule in rules])
    echo(
        f"{counted(len(rules), 'rule')}." if rules else "No rules. Add one:  dualreg retention add PATTERN …"
    )


@retention.command()
@click.argument("pattern")
@settings_options
def remove(pattern: str, data: Path | None, config: Path | None) -> None:
    """Remove the rule for PATTERN."""
    try:
        repositories, tags = parse_patterns(pattern)
        with audited_registry(data, config, alone=True) as (registry, _, record):
            registry.retention.remove(repositories, tags)
            record("retention remove", pattern=f"{repositories}:{tags}")
    except ValueError as error:
        raise click.ClickException(str(error)) from error
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
    try:
        chosen = Tag.parse(tag) if tag else None
        with prepared_registry(data, config) as (registry, _), interruptible():
            verdicts = _judged(registry, RepositoryName.parse(name), chosen)
            _explain(verdicts, as_json=as_json)
    except RegistryError as error:
        raise click.ClickException(str(error)) from error


def _judged(registry: Registry, name: RepositoryName, tag: Tag | None) -> Iterator[Sequence[Verdict]]:
    """Yield what becomes of the tags of a repository, or of one of them.

    Raises:
        RepositoryUnknown, TagUnknown.
    """
    service = registry.retention
    repository = service.find(name)
    if upstream := service.upstream(repository):
        echo(f"No rules apply: the content is from {upstream}. See keep in docs/upstreams.md.", err=True)
    for judged in service.judge(repository, () if upstream else service.rules()):
        found = [each for each in judged.verdicts if tag in (None, each.tag.name)]
        yield found
        if tag and found:
            return
    if tag:
        raise TagUnknown(tag=tag)


def _explain(pages: Iterator[Sequence[Verdict]], *, as_json: bool) -> None:
    columns = Columns(*_HEADINGS)
    for verdicts in pages:
        if not as_json:
            columns.add([_cells(each) for each in verdicts])
        for each in verdicts if as_json else ():
            echo_json(_explained(each), indent=None)


def _cells(verdict: Verdict) -> tuple[str, ...]:
    """Return the columns of ``explain``."""
    tag, until = verdict.tag, verdict.goes_at
    stays = f"until {minute(until)}" if until else "no" if verdict.goes else "yes"
    pulled = minute(tag.pulled_at) if tag.pulled_at else "never"
    return (tag.name, minute(tag.pushed_at), pulled, stays, _why(verdict))


def _explained(verdict: Verdict) -> dict[str, object]:
    kept = [
        {"clause": keep.clause, "rule": _pattern(keep.rule) if keep.rule else None, "until": keep.until}
        for keep in verdict.keeps
    ]
    return {
        "tag": verdict.tag.name,
        "digest": verdict.tag.digest,
        "pushed_at": verdict.tag.pushed_at,
        "pulled_at": verdict.tag.pulled_at,
        "stays": not verdict.goes,
        "until": verdict.goes_at,
        "rules": [_pattern(rule) for rule in verdict.rules],
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
            tag, rules = verdict.tag, [_text(rule) for rule in verdict.rules]
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
                self._columns.add([(f"{repository}:{tag.name}", *_cells(verdict)[1:3], "; ".join(rules))])


def _summarize(result: Retained, settings: Settings, *, dry_run: bool) -> None:
    of = f"of {result.tags} in {counted(result.repositories, 'repository', 'repositories')} with rules"
    echo(f"{'Would delete' if dry_run else 'Deleted'} {counted(result.deleted, 'tag')} {of}.")
    if result.changed:
        echo(f"{counted(result.changed, 'tag')} changed meanwhile, or newer ones did; run it again.")
    if not result.complete:
        echo("Stopped before the end; run it again.")
    if result.deleted and settings.gc_untagged is None:
        echo("Their images stay, by digest, and take room: manifests without a tag are kept (gc_untagged).")


def _why(verdict: Verdict) -> str:
    if not verdict.rules:
        return "no rule matches it"
    if verdict.goes:
        return f"not kept by {'; '.join(map(_text, verdict.rules))}"
    return "; ".join(dict.fromkeys(map(_kept, verdict.keeps)))


def _kept(keep: Keep) -> str:
    if keep.rule is None:
        return "it is immutable" if keep.clause is Clause.IMMUTABLE else "its image is in the repository"
    return f"{_pattern(keep.rule)} keeps {_clause(keep.rule, keep.clause)}"


def _pattern(rule: RetentionRule) -> str:
    return f"{rule.repositories}:{rule.tags}"


def _text(rule: RetentionRule) -> str:
    return f"{_pattern(rule)} ({', '.join(_clauses(rule))})"


def _clauses(rule: RetentionRule) -> Sequence[str]:
    """Return the clauses of a rule as it was given."""
    given = {
        Clause.NEWEST: rule.newest, Clause.YOUNGER_THAN: rule.younger_than,
        Clause.PULLED_WITHIN: rule.pulled_within, Clause.MATCHING: rule.matching,
    }  # fmt: skip
    return [_clause(rule, clause) for clause, value in given.items() if value]


def _clause(rule: RetentionRule, clause: Clause) -> str:
    match clause:
        case Clause.YOUNGER_THAN:
            value = format_duration(rule.younger_than or timedelta())
        case Clause.PULLED_WITHIN:
            value = format_duration(rule.pulled_within or timedelta())
        case Clause.MATCHING:
            value = " ".join(rule.matching)
        case _:
            value = f"{rule.newest}"
    return f"{clause} {value}"


def _document(rule: RetentionRule) -> dict[str, object]:
    """Return a rule for programs: durations as they are given."""
    durations = {"younger_than": rule.younger_than, "pulled_within": rule.pulled_within}
    return asdict(rule) | {name: each and format_duration(each) for name, each in durations.items()}
