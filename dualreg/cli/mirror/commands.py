"""``dualreg mirror run`` and ``dualreg mirror list``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from dualreg.assembly import catalog_of
from dualreg.catalog.leading import Duty
from dualreg.cli.admin import audited_registry, existing_registry, prepared_registry
from dualreg.cli.background import end_with
from dualreg.cli.failures import FAILURES, Fatal, MigrateGroup, reason_of
from dualreg.cli.migrate.following import alone
from dualreg.cli.migrate.output import EXIT_FINDINGS
from dualreg.cli.mirror.copying import Copied, Copying, plan_copy
from dualreg.cli.mirror.schedule import Scheduled, due_at
from dualreg.cli.options import json_option, load_settings, settings_options
from dualreg.cli.output import echo, echo_json, minute, table
from dualreg.cli.progress import stoppable
from dualreg.messages import counted
from dualreg.migrate.mirrored import Mirrored, MirrorNotes
from dualreg.migrate.plan import Entry, full_name
from dualreg.migrate.run import Outcome, Status
from dualreg.settings import Settings
from dualreg.settings.mirrors import MirrorRule

_MIB = 1 << 20


@click.group(cls=MigrateGroup)
def mirror() -> None:
    """Copy images from and to other registries, by rules.

    The rules are the tables [mirrors.NAME] of the configuration file.
    """


@mirror.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--dry-run", is_flag=True, help="Only print what would be copied.")
@click.option("--scheduled", is_flag=True, hidden=True, help="Run for the server, as the rules say.")
@click.option("--parent", type=int, hidden=True, help="End with the process of this ID.")
@json_option
@settings_options
def run(
    names: tuple[str, ...], data: Path | None, config: Path | None, *, dry_run: bool, scheduled: bool,
    parent: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Copy now by the rules NAME, or by all rules.

    Safe to interrupt at any time: run it again, and it resumes.

    Exit status: 0 if every selected tag is copied, 1 otherwise, 2 if there is no such rule.
    """
    end_with(parent)
    settings = load_settings(config, data=data)
    rules = _chosen(settings, names)
    if dry_run:
        _print_dry_run(settings, rules, as_json=as_json)
        return
    opened = audited_registry(data, config, alone=True, create=True, announce=not scheduled)
    with opened as (registry, _, record):
        if scheduled:
            with stoppable(quiet=True) as stop, alone(registry, stop, Duty.MIRRORING):
                Scheduled(settings, registry, record, stop).run()
            return
        copying, results = Copying(settings, registry, record, stoppable), []
        for name, rule in rules.items():
            try:
                results.append(_result(name, copying.by_rule(name, rule)))
            except FAILURES as error:  # which end the runs of no other rules
                results.append(_failure(name, reason_of(error)))
            if not as_json:
                _print(results[-1])
    if as_json:
        echo_json({"mirrors": results})
    if any(each["error"] or each["tags"] for each in results):
        raise SystemExit(EXIT_FINDINGS)


@mirror.command("list")
@json_option
@settings_options
def list_(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the rules: when each was run and is run next, and what it has copied so far."""
    settings, now = load_settings(config, data=data), datetime.now().astimezone()
    with prepared_registry(data, config, alone=True) as (registry, _):
        notes = MirrorNotes(catalog_of(registry)).read()
    rows = [_listed(name, rule, notes.get(name, Mirrored()), now) for name, rule in settings.mirrors.items()]
    if as_json:
        echo_json({"mirrors": rows})
        return
    headings = (
        "NAME",
        "FROM OR TO",
        "LAST RUN",
        "LAST SUCCESS",
        "NEXT RUN",
        "IMAGES",
        "BLOBS",
        "MIB",
        "FAILED",
    )
    table(headings, [_row(each) for each in rows])
    for each in rows:
        if each["error"]:
            echo(f"{each['name']}: {each['error']}")
    if not rows:
        echo("No rules: see [mirrors.NAME] in docs/mirrors.md.")


def _chosen(settings: Settings, names: Sequence[str]) -> Mapping[str, MirrorRule]:
    """Return the rules that were named; all of them if none was.

    Raises:
        Fatal: there is no such rule.
    """
    if missing := [name for name in names if name not in settings.mirrors]:
        raise Fatal(f'no mirror rule "{missing[0]}"; there are: {", ".join(settings.mirrors) or "none"}')
    if not settings.mirrors:
        raise Fatal("there are no mirror rules; add [mirrors.NAME] to the configuration file")
    return {name: settings.mirrors[name] for name in names or settings.mirrors}


def _print_dry_run(settings: Settings, rules: Mapping[str, MirrorRule], *, as_json: bool) -> None:
    """Print what runs would copy; create nothing, not even the catalog."""
    found = []
    with existing_registry(settings) as registry:
        for name, rule in rules.items():
            foreseen = plan_copy(name, rule, settings, registry).foresee()
            found += [_foreseen(name, entry, outcome) for entry, outcome in foreseen.items()]
    if as_json:
        echo_json({"dry_run": True, "tags": found})
        return
    for each in found:
        place = f" as {each['to']}" if each["status"] == "copy" else ""
        reason = f": {each['reason']}" if each["reason"] else ""
        echo(f"{each['mirror']}: {each['tag']}: {each['status']}{place}{reason}")
    echo(f"{counted(sum(each['status'] == 'copy' for each in found), 'tag')} would be copied.")


def _foreseen(name: str, entry: Entry, outcome: Outcome | None) -> dict[str, str]:
    return {
        "mirror": name,
        "tag": entry.name,
        "to": full_name(entry.to_repository, entry.to_tag, entry.image),
        "status": outcome.status if outcome else "copy",
        "reason": outcome.reason if outcome else "",
    }


def _result(name: str, copied: Copied) -> dict[str, Any]:
    counts = Counter(str(each.status) for each in copied.outcomes)
    counts[Status.SAME] += copied.same
    tags = [
        {"tag": each.entry.name, "status": each.status, "reason": each.reason}
        for each in copied.outcomes
        if each.status is not Status.DONE
    ]
    return {"name": name, "run": copied.run, "counts": +counts, "tags": tags, "error": ""}


def _failure(name: str, reason: str) -> dict[str, Any]:
    return {"name": name, "run": "", "counts": {}, "tags": [], "error": reason}


def _print(result: Mapping[str, Any]) -> None:
    for each in result["tags"]:
        echo(f"{result['name']}: {each['tag']}: {each['status']}: {each['reason']}")
    counts = ", ".join(f"{count} {status}" for status, count in result["counts"].items())
    echo(f"{result['name']}: {result['error'] or counts or 'no tag is selected'}")


def _listed(name: str, rule: MirrorRule, done: Mirrored, now: datetime) -> dict[str, Any]:
    due = due_at(rule, done, now)
    return {
        "name": name,
        "pull": rule.pull,
        "push": rule.push,
        "schedule": rule.schedule,
        **asdict(done),
        "next": due.isoformat() if due else "",
    }


def _row(each: Mapping[str, Any]) -> tuple[str, ...]:
    times = [
        minute(datetime.fromisoformat(each[key])) if each[key] else "-"
        for key in ("began", "succeeded", "next")
    ]
    numbers = (each["images"], each["blobs"], each["bytes"] // _MIB, each["failures"])
    return (each["name"], each["pull"] or each["push"], *times, *map(str, numbers))
