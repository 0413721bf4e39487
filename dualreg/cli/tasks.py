"""``dualreg tasks``: what the service does by itself, when it did so last, and when it does so next."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import click

from dualreg.assembly import catalog_of
from dualreg.catalog.tasks import TaskRow
from dualreg.cli import garbage, growth, retention, scrub
from dualreg.cli.admin import audited_registry
from dualreg.cli.administration import administration, chosen_server
from dualreg.cli.background import end_with
from dualreg.cli.failures import FAILURES, reason_of
from dualreg.cli.mirror.copying import Copying
from dualreg.cli.mirror.schedule import due_at
from dualreg.cli.options import json_option, load_settings, settings_options
from dualreg.cli.output import capped, counted_upto, echo, echo_json, minute, sized, table
from dualreg.cli.progress import stoppable
from dualreg.cli.readonly import require_changeable
from dualreg.cli.turns import Task, next_start, run_now
from dualreg.messages import counted
from dualreg.migrate.mirrored import Mirrored, MirrorNotes
from dualreg.operations.control import ListedTask
from dualreg.operations.table import Administration
from dualreg.registry import Registry
from dualreg.registry.webhooks import COUNTED, ListedWebhook
from dualreg.settings import Settings
from dualreg.webhooks.mark import mark

#: Those that one process does for all instances.
TASKS = {task.name: task for task in (garbage.TASK, retention.TASK, scrub.TASK, growth.TASK)}
#: What the names of mirror rules, and of webhooks, begin with.
_MIRROR, _WEBHOOK = "mirror/", "webhook/"
#: Seconds between two looks at whether a task on a server has ended, and in which it has to begin.
_POLL, _BEGINNING = 1.0, 60.0
#: Statuses of runs that have not done what they were to.
_BAD = ("failed", "interrupted")
_HEADINGS = ("TASK", "SCHEDULE", "LAST RUN", "TOOK", "RESULT", "NEXT RUN", "INSTANCE")


class Control:
    """Lists the tasks of a registry, and starts them in processes beside its server."""

    def __init__(
        self, registry: Registry, settings: Settings, start: Callable[[str], None] | None = None
    ) -> None:
        """Start tasks by *start*, given their name; None: it is not to start any."""
        self._registry, self._settings, self._start = registry, settings, start

    def list(self, name: str | None = None) -> Sequence[ListedTask]:
        return [*_listed(self._registry, self._settings, name)]

    def start(self, name: str) -> None:
        if name.startswith(_WEBHOOK):
            self._registry.webhooks.hasten(name.removeprefix(_WEBHOOK))
            mark(self._settings.data)
            return
        require_task(name, self._settings)
        if who := self._busy(name):
            raise ValueError(f"{name} is being run{who}; `dualreg tasks` shows when it ends")
        if self._start:
            self._start(name)

    def _busy(self, name: str) -> str:
        """Return by whom a task is being run, if it is; else an empty text."""
        if name not in TASKS:
            notes = MirrorNotes(catalog_of(self._registry))
            return " by another process" if notes.is_running(name.removeprefix(_MIRROR)) else ""
        runs = self._registry.task_runs
        row, running = runs.settle(row, TASKS[name].duty) if (row := runs.find(name)) else (None, False)
        return f" by {row.instance}" if row and running else ""


def require_task(name: str, settings: Settings) -> None:
    """Check that there is a task.

    Raises:
        ValueError: there is none; names those that there are.
    """
    known = [*TASKS, *(f"{_MIRROR}{each}" for each in settings.mirrors)]
    if name not in known:
        raise ValueError(f'unknown task "{name}"; the tasks are {", ".join(known)}')


@click.group(invoke_without_command=True)
@json_option
@settings_options
@click.pass_context
def tasks(context: click.Context, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the tasks of the service: when each was run last and is run next, and what came of it."""
    if context.invoked_subcommand:
        return
    with administration(data, config, alone=True, tasks=Control) as admin:
        found = admin.tasks.list()
    if as_json:
        echo_json([asdict(each) for each in found])
        return
    table(_HEADINGS, [_cells(each) for each in found])


@tasks.command()
@click.argument("name")
@click.option("--parent", type=int, hidden=True, help="End with the process of this ID.")
@json_option
@settings_options
def run(name: str, data: Path | None, config: Path | None, *, parent: int | None, as_json: bool) -> None:
    """Run the task NAME now, and wait for its end; of a webhook, have what waits be sent now.

    Safe while the registry is serving: a task is never run twice at once.
    """
    end_with(parent)
    if name.startswith(_WEBHOOK):
        with administration(data, config, changes=True, alone=True) as admin:
            retried = admin.webhooks.retry(name.removeprefix(_WEBHOOK))
        result = f"{counted_upto(retried.events, COUNTED, 'event')} will be sent now"
    elif chosen_server().url:
        with administration(data, config) as admin:
            result = _run_there(admin, name)
    else:
        result = _run_here(name, data, config)
    if as_json:
        echo_json({"name": name, "result": result})
    else:
        echo(f"{name}: {result}")


@tasks.command()
@click.argument("name")
@json_option
@settings_options
def preview(name: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show what the task NAME would delete now: gc, or retention.

    It takes a few seconds at most; if much is due, not all of it is looked at. `dualreg gc --dry-run` and
    `dualreg retention run --dry-run` show all of it.
    """
    with administration(data, config, alone=True) as admin:
        found = admin.tasks.preview(name)
    if as_json:
        echo_json(found)
        return
    table(("WHAT", "WHY"), [(each.what, each.why) for each in found.entries])
    echo(f"{found.name}: {found.result}")
    if not found.complete:
        echo("There may be more: not all that is due was looked at.")


def _run_here(name: str, data: Path | None, config: Path | None) -> str:
    """Run a task on this machine; return what it has done."""
    settings = load_settings(config, data=data)
    try:
        require_task(name, settings)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if name in TASKS:
        return run_now(TASKS[name], data, config)
    return _mirror(name.removeprefix(_MIRROR), data, config)


def _run_there(admin: Administration, name: str) -> str:
    """Have a server run a task, and wait for its end; return what it has done.

    Raises:
        click.ClickException: it has failed, was interrupted, or does not begin.
    """
    before, began = admin.tasks.start(name).before, time.monotonic()
    while True:
        time.sleep(_POLL)
        (found,) = admin.tasks.list(name)
        if found.started_at != before and (found.ended_at or found.status == "interrupted"):
            break
        if found.started_at == before and time.monotonic() > began + _BEGINNING:
            raise click.ClickException(f"{name} does not begin; the log of the server says why")
    if found.status in _BAD:
        raise click.ClickException(": ".join(filter(None, (name, found.status, found.result))))
    return found.result


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


def _listed(registry: Registry, settings: Settings, name: str | None) -> Iterator[ListedTask]:
    """Yield all tasks, or only the one of a name."""
    now, runs = registry.now().astimezone(), registry.task_runs
    chosen = [task for task in TASKS.values() if name in (None, task.name)]
    rows = {row.name: row for row in (runs.list() if chosen else ())}
    for task in chosen:
        row, running = runs.settle(row, task.duty) if (row := rows.get(task.name)) else (None, False)
        listed = _listed_task(task, settings, row, now, running=running)
        yield _scrubbing(listed, registry, settings) if task is scrub.TASK else listed
    if name is None or name.startswith(_WEBHOOK):
        webhooks = map(_webhook, registry.webhooks.list())
        yield from (each for each in webhooks if name in (None, each.name))
    if name is None or name.startswith(_MIRROR):
        yield from _mirrors(registry, settings, name, now)


def _listed_task(
    task: Task, settings: Settings, row: TaskRow | None, now: datetime, *, running: bool
) -> ListedTask:
    timing = task.timing(settings)
    schedule = " in ".join(filter(None, (timing.schedule, timing.window))) or "never"
    due = next_start(timing, row, now)
    if row is None:
        return ListedTask(task.name, schedule, "never", next=due)
    status = "running" if running else "interrupted"
    if row.ended_at:
        status = "failed" if row.failed else "done"
    return ListedTask(
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


def _scrubbing(listed: ListedTask, registry: Registry, settings: Settings) -> ListedTask:
    """Return what is listed of the task that servers also do all the time."""
    result = "; ".join(filter(None, (listed.result, scrub.outlook(registry))))
    if not settings.fsck_rate:
        return replace(listed, result=result)
    status = listed.status if listed.status in _BAD else "running"
    return replace(listed, schedule=f"always, {sized(settings.fsck_rate)}/s", status=status, result=result)


def _webhook(each: ListedWebhook) -> ListedTask:
    """Return the delivery to a webhook: its last attempt."""
    state, backlog = each.progress, each.backlog
    waiting, dead = (capped(count, COUNTED) for count in (each.waiting, backlog.dead))
    result = f"{state.delivered} delivered, {waiting} waiting, {dead} given up"
    return ListedTask(
        f"{_WEBHOOK}{each.webhook.name}",
        "at once",
        ("failed" if state.failures else "done") if state.attempted_at else "never",
        state.attempted_at,
        state.attempted_at,
        None,
        ": ".join(filter(None, (result, each.stopped, state.error))),
        state.due_at if each.waiting else None,
    )


def _mirrors(
    registry: Registry, settings: Settings, wanted: str | None, now: datetime
) -> Iterator[ListedTask]:
    notes = MirrorNotes(catalog_of(registry))
    known = notes.read()
    for name, rule in settings.mirrors.items():
        if wanted not in (None, f"{_MIRROR}{name}"):
            continue
        done, running = notes.settle(name, known.get(name, Mirrored()))
        status = "failed" if done.error else "done"
        ended = None
        with suppress(ValueError):
            ended = datetime.fromisoformat(done.ended)
        if done.is_unfinished:
            status, ended = "running" if running else "interrupted", None
        yield ListedTask(
            f"{_MIRROR}{name}",
            rule.schedule or "never",
            status if done.begun else "never",
            done.begun,
            ended,
            (ended - done.begun).total_seconds() if ended and done.begun else None,
            done.error,
            None if running else due_at(rule, done, now),
        )


def _cells(each: ListedTask) -> tuple[str, ...]:
    took = "-" if each.seconds is None else f"{each.seconds:.1f} s"
    result = ": ".join(filter(None, (each.status, each.result)))
    times = [minute(time) if time else "-" for time in (each.started_at, each.next)]
    return (each.name, each.schedule, times[0], took, result, times[1], each.instance or "-")
