"""``dualreg tasks``: what the service does by itself, when it did so last, and when it does so next."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import click

from dualreg.assembly import catalog_of
from dualreg.catalog.tasks import TaskRow
from dualreg.cli import garbage, retention, scrub
from dualreg.cli.admin import audited_registry, prepared_registry
from dualreg.cli.failures import FAILURES, reason_of
from dualreg.cli.mirror.copying import Copying
from dualreg.cli.mirror.schedule import due_at
from dualreg.cli.options import json_option, load_settings, settings_options
from dualreg.cli.output import counted, echo, echo_json, minute, sized, table
from dualreg.cli.progress import stoppable
from dualreg.cli.readonly import require_changeable
from dualreg.cli.turns import Task, next_start, run_now
from dualreg.migrate.mirrored import Mirrored, MirrorNotes
from dualreg.registry import Registry
from dualreg.registry.tasks import is_running
from dualreg.settings import Settings

#: Those that one process does for all instances.
TASKS = {task.name: task for task in (garbage.TASK, retention.TASK, scrub.TASK)}
#: What the names of mirror rules begin with.
_MIRROR = "mirror/"
_HEADINGS = ("TASK", "SCHEDULE", "LAST RUN", "TOOK", "RESULT", "NEXT RUN", "INSTANCE")


@dataclass(frozen=True, slots=True)
class Listed:
    """A task. The fields are keys of ``--json``.

    Attributes:
        status: ``running``, ``done``, ``failed``, ``interrupted``, or ``never`` if it never ran.
        seconds: How long the last run took; None if it has not ended.
        result: What it has done, or in one line why it failed.
        next: When it begins next; None if it is running, or has no schedule.
    """

    name: str
    schedule: str
    status: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    seconds: float | None = None
    result: str = ""
    next: datetime | None = None
    instance: str = ""


@click.group(invoke_without_command=True)
@json_option
@settings_options
@click.pass_context
def tasks(context: click.Context, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the tasks of the service: when each was run last and is run next, and what came of it."""
    if context.invoked_subcommand:
        return
    with prepared_registry(data, config, alone=True) as (registry, settings):
        found = [*_listed(registry, settings)]
    if as_json:
        echo_json([asdict(each) for each in found])
        return
    table(_HEADINGS, [_cells(each) for each in found])


@tasks.command()
@click.argument("name")
@json_option
@settings_options
def run(name: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Run the task NAME now.

    Safe while the registry is serving: a task is never run twice at once.
    """
    settings = load_settings(config, data=data)
    if name in TASKS:
        result = run_now(TASKS[name], data, config)
    elif name.removeprefix(_MIRROR) in settings.mirrors and name.startswith(_MIRROR):
        result = _mirror(name.removeprefix(_MIRROR), data, config)
    else:
        known = ", ".join([*TASKS, *(f"{_MIRROR}{each}" for each in settings.mirrors)])
        raise click.ClickException(f'unknown task "{name}"; the tasks are {known}')
    if as_json:
        echo_json({"name": name, "result": result})
    else:
        echo(f"{name}: {result}")


def _mirror(name: str, data: Path | None, config: Path | None) -> str:
    """Copy by a mirror rule; return what was copied.

    Raises:
        click.ClickException: it has failed, or another process copies by the rule.
    """
    try:
        with audited_registry(data, config, alone=True) as (registry, settings, record):
            require_changeable(settings)
            copied = Copying(settings, registry, record, stoppable).by_rule(name, settings.mirrors[name])
    except FAILURES as error:
        raise click.ClickException(f"{_MIRROR}{name}: {reason_of(error)}") from error
    return f"{counted(len(copied.outcomes), 'tag')} looked at, {copied.same} of all the same"


def _listed(registry: Registry, settings: Settings) -> Iterator[Listed]:
    rows, now = {row.name: row for row in registry.task_runs.list()}, registry.now().astimezone()
    for task in TASKS.values():
        listed = _listed_task(task, settings, rows.get(task.name), now)
        yield _scrubbing(listed, registry, settings) if task is scrub.TASK else listed
    yield from _mirrors(settings, MirrorNotes(catalog_of(registry)).read(), now)


def _listed_task(task: Task, settings: Settings, row: TaskRow | None, now: datetime) -> Listed:
    timing = task.timing(settings)
    schedule = " in ".join(filter(None, (timing.schedule, timing.window))) or "never"
    due = next_start(timing, row, now)
    if row is None:
        return Listed(task.name, schedule, "never", next=due)
    running = is_running(row)
    status = "running" if running else "interrupted"
    if row.ended_at:
        status = "failed" if row.failed else "done"
    return Listed(
        task.name,
        schedule,
        status,
        row.started_at,
        row.ended_at,
        (row.ended_at - row.started_at).total_seconds() if row.ended_at else None,
        row.result,
        None if running else due,
        row.instance,
    )


def _scrubbing(listed: Listed, registry: Registry, settings: Settings) -> Listed:
    """Return what is listed of the task that servers also do all the time."""
    result = "; ".join(filter(None, (listed.result, scrub.outlook(registry))))
    if not settings.fsck_rate:
        return replace(listed, result=result)
    return replace(listed, schedule=f"always, {sized(settings.fsck_rate)}/s", status="running", result=result)


def _mirrors(settings: Settings, notes: Mapping[str, Mirrored], now: datetime) -> Iterator[Listed]:
    for name, rule in settings.mirrors.items():
        done = notes.get(name, Mirrored())
        status = "failed" if done.error else "done"
        ended = None
        with suppress(ValueError):
            ended = datetime.fromisoformat(done.ended)
        if done.is_unfinished:
            status, ended = "running or interrupted", None
        yield Listed(
            f"{_MIRROR}{name}",
            rule.schedule or "never",
            status if done.begun else "never",
            done.begun,
            ended,
            (ended - done.begun).total_seconds() if ended and done.begun else None,
            done.error,
            due_at(rule, done, now),
        )


def _cells(each: Listed) -> tuple[str, ...]:
    took = "-" if each.seconds is None else f"{each.seconds:.1f} s"
    result = ": ".join(filter(None, (each.status, each.result)))
    times = [minute(time) if time else "-" for time in (each.started_at, each.next)]
    return (each.name, each.schedule, times[0], took, result, times[1], each.instance or "-")
