"""Turns: a task is run by one process for all instances, when it is due or an operator wants it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import click

from dualreg.assembly import catalog_of
from dualreg.catalog.clock import utc_now
from dualreg.catalog.leading import Duty, lead
from dualreg.catalog.tasks import TaskRow
from dualreg.cli.admin import Record, audited_registry
from dualreg.cli.background import end_with
from dualreg.cli.failures import FAILURES, reason_of
from dualreg.cli.output import echo, minute
from dualreg.cli.readonly import require_changeable
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.settings.schedules import Timing, parse_schedule

#: By how much clocks may always differ.
_DIFFERENCE = timedelta(minutes=5)
#: The part of an interval by which a task may begin early: servers do not look at their clocks at once.
_EARLY = 0.1


@dataclass(frozen=True)
class Task:
    """What the service does by itself.

    Attributes:
        name: What operators call it.
        duty: What the process that runs it leads.
        timing: When it is due.
        work: Does it, between the times of day that it is given, and returns in one line what it has done.
        alone: Whether it works without the legacy source.
        is_wanted: Whether there is anything to do, if it is due.
        changes: Whether it changes content, which followers and registries that are read-only do not.
    """

    name: str
    duty: Duty
    timing: Callable[[Settings], Timing]
    work: Callable[[Registry, Settings, Record, str], str]
    alone: bool = True
    is_wanted: Callable[[Registry, Settings], bool] = lambda *_: True
    changes: bool = True


def run_scheduled(task: Task, data: Path | None, config: Path | None) -> None:
    """Run a task for the server that has started this process, if it is due and no other process runs it.

    Raises:
        click.ClickException: it has failed.
        LeadLost: another process has taken over.
    """
    end_with(os.getppid())
    with (
        audited_registry(data, config, changes=task.changes, alone=task.alone, announce=False) as (
            registry,
            settings,
            record,
        ),
        lead(catalog_of(registry), task.duty) as led,
    ):
        if led is None:
            return
        if text := _clocks_differ(registry, settings):
            what = {"gc": "no garbage is collected"}.get(task.name, f"{task.name} is not run")
            echo(f"{what}: {text}", err=True)
            return
        if not is_due(task, registry, settings):
            return
        with led.fenced():
            _run(task, registry, settings, record, task.timing(settings).window)


def run_now(task: Task, data: Path | None, config: Path | None) -> str:
    """Run a task, due or not; return what it has done.

    Raises:
        click.ClickException: it has failed, is being run by another process, or the registry is read-only.
    """
    with (
        audited_registry(data, config, changes=task.changes, alone=task.alone) as (
            registry,
            settings,
            record,
        ),
        lead(catalog_of(registry), task.duty) as led,
    ):
        if led is None:
            raise click.ClickException(_busy(task, registry.task_runs.find(task.name)))
        if text := _clocks_differ(registry, settings):
            raise click.ClickException(f"{task.name} is not run: {text}")
        if task.changes:
            require_changeable(settings)
        with led.fenced():
            return _run(task, registry, settings, record, "")


def _run(task: Task, registry: Registry, settings: Settings, record: Record, window: str) -> str:
    try:
        with registry.task_runs.run(task.name) as run:
            run.result = task.work(registry, settings, record, window)
    except FAILURES as error:
        raise click.ClickException(reason_of(error)) from error
    return run.result


def is_due(task: Task, registry: Registry, settings: Settings) -> bool:
    """Return whether a task is due, or almost, of which the caller leads the duty."""
    timing, row = task.timing(settings), registry.task_runs.find(task.name)
    now = registry.now().astimezone()
    due = next_start(timing, row, now)
    interval = parse_schedule(timing.schedule) if timing.schedule else None
    early = interval * _EARLY if isinstance(interval, timedelta) else timedelta()
    return due is not None and due <= now + early and task.is_wanted(registry, settings)


def next_start(timing: Timing, row: TaskRow | None, now: datetime) -> datetime | None:
    """Return when a task that is not being run begins next, by its last run."""
    if row is None:
        return timing.next_start(None, now)
    return timing.next_start(row.started_at, now, is_unfinished=row.ended_at is None)


def _busy(task: Task, row: TaskRow | None) -> str:
    who = f" by {row.instance}, since {minute(row.started_at)}" if row and row.ended_at is None else ""
    return f"{task.name} is being run{who}; `dualreg tasks` shows when it ends"


def _clocks_differ(registry: Registry, settings: Settings) -> str:
    """Return how the clock of the database or that of this machine is wrong, so that ages are, too."""
    difference = abs(registry.now() - utc_now())
    if difference <= max(settings.gc_grace / 2, _DIFFERENCE):
        return ""
    return (
        f"the clocks of this machine and of the database differ by {difference.total_seconds():.0f} seconds"
    )
