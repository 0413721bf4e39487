"""Processes beside the server: the import of the legacy source, the garbage collection, a follower's update.

The collection is started when one is due; the others are started again whenever they exit, for example when
the kernel killed them for lack of memory. They have low priority, and end with the server, even if it is
killed. Of several instances, one at a time collects, and one imports (``catalog.leading``).
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from datetime import time as time_of_day
from functools import partial
from threading import Thread

from dualreg.cli.options import environment, load_settings
from dualreg.cli.output import echo, print_as_log
from dualreg.settings import CONFIG_VARIABLE, PREFIX, Settings
from dualreg.settings.schedules import parse_schedule
from dualreg.settings.values import chosen, format_duration, in_window

#: Settings that a child gets from the server, from whatever origin; it has no others.
_SHARED = (
    "store", "store_fallback", "s3_endpoint", "s3_region", "database", "sparse_indexes", "strict_manifests",
    "audit", "bridge", "min_free", "mirrors", "upstreams", "log_format", "log_level",
)  # fmt: skip
_SHARED_BY_GC = (
    "upload_ttl",
    "gc_interval",
    "gc_grace",
    "gc_untagged",
    "history_keep",
    "undelete_grace",
    "gc_window",
    "gc_rate",
    "gc_empty_repositories",
    "retention_schedule",
)
_SHARED_BY_FOLLOWER = ("follow", "follow_interval", "follow_verify")
_SHARED_CONNECTIONS = "database_connections"
_IMPORT_OPTIONS = ("--follow", "10m", "--jobs", "2")
#: Added to the niceness of the server.
_NICENESS = 10
#: Seconds between an exit and the restart.
_RESTART_DELAY = 3.0
#: Seconds that the child has to finish when it is asked to end; what is cut short then is imported later.
_GRACE = 5.0
#: Seconds between two looks at whether the server is alive.
_PARENT_POLL = 0.5
#: Seconds after the start of the server at which garbage is first collected, at the latest.
_FIRST_COLLECTION = 60.0
#: The same for a look at whether it is due to note what is stored.
_FIRST_NOTE = 300.0
#: Seconds between two looks at whether a task that is due less often is due: it may have been missed.
_LONGEST_LOOK = 3600.0
#: Seconds by which the clock may be corrected without being set.
_JUMP = 60.0
#: A process beside the server.
Child = subprocess.Popen[bytes]


class Beside:
    """A child of the server, in whose main process gunicorn takes the status of every child that exits."""

    _process: Child | None = None

    def reap(self) -> None:
        """Take the status of the child if it has exited; to be called before gunicorn takes it."""
        if self._process:
            self._process.poll()


class BackgroundCommand(Beside):
    """Keeps a low-priority child running that runs a command of ours."""

    def __init__(self, settings: Settings, what: str, *command: str) -> None:
        """Run *command* with what the server has of *settings*; without one, do nothing.

        Args:
            what: What messages call it.
        """
        self._settings, self._what, self._command = settings, what, command
        self._restart_at = 0.0

    def start(self) -> None:
        """Start the child."""
        if self._command:
            self._process = start_child(self._settings, *self._command, "--parent", str(os.getpid()))

    def keep_running(self) -> None:
        """Restart the child if it has exited, after a delay; to be called about every second."""
        if self._process is None or self._process.poll() is None:
            return
        if not self._restart_at:
            echo(f"the {self._what} {how_ended(self._process.returncode)}; restarting", err=True)
            self._restart_at = time.monotonic() + _RESTART_DELAY
        elif time.monotonic() >= self._restart_at:
            self._restart_at = 0.0
            try:
                self.start()
            except OSError as error:  # such as for lack of memory, which must not end the server
                echo(f"cannot restart the {self._what}: {error}", err=True)
                self._restart_at = time.monotonic() + _RESTART_DELAY

    def stop(self) -> None:
        """Stop the child; what it has started is finished if that takes a few seconds."""
        if self._process:
            stop_child(self._process)
            self._process = None


def background_import(settings: Settings) -> BackgroundCommand:
    """Return what imports the ``legacy_source`` of *settings*, then follows it; without one, nothing."""
    source = settings.legacy_source
    command = ("migrate", "run", source, *_IMPORT_OPTIONS) if source else ()
    return BackgroundCommand(settings, "background import", *command)


def background_mirrors(settings: Settings) -> BackgroundCommand:
    """Return what copies by the mirror rules of *settings* that have a schedule; without any, nothing."""
    is_due = any(rule.schedule for rule in settings.mirrors.values())
    command = ("mirror", "run", "--scheduled") if is_due else ()
    return BackgroundCommand(settings, "mirroring", *command)


def background_update(settings: Settings) -> BackgroundCommand:
    """Return what keeps the catalog of a follower up to date."""
    access = ("--access",) if settings.auth != "none" else ()
    return BackgroundCommand(settings, "background update", "follow", "update", "--watch", *access)


class Schedule:
    """Says when a task may be due: every *interval*, in a window; times are in seconds."""

    def __init__(
        self,
        interval: float,
        grace: float,
        window: str,
        *,
        at: time_of_day | None = None,
        first: float = _FIRST_COLLECTION,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Begin soon; an *interval* of 0 means never. The *window* is as the setting ``gc_window``.

        Args:
            at: A time of day at which it is due, too.
            first: When it is first due, at the latest.
        """
        self._interval, self._grace, self._window = interval, grace, window
        self._monotonic, self._wall = monotonic, wall
        self._due = monotonic() + min(interval, first)
        self._offset = wall() - monotonic()
        self._at, self._looked, self._barred = at, self._local(), monotonic()

    def _local(self) -> datetime:
        return datetime.fromtimestamp(self._wall()).astimezone()

    def _has_come(self) -> bool:
        """Return whether the time of day has come since the last call."""
        before, self._looked = self._looked, self._local()
        now = self._looked
        return self._at is not None and before < datetime.combine(now.date(), self._at, now.tzinfo) <= now

    def is_due(self) -> bool:
        """Return whether it is due; if so, it is due again an interval later."""
        now, has_come = self._monotonic(), self._has_come()
        is_open = in_window(self._window, self._local().time())
        if not (self._interval and (now >= self._due or has_come) and is_open and now >= self._barred):
            return False
        self._due = now + self._interval
        return True

    def has_jumped(self) -> bool:
        """Return whether the clock was set forward since the last call: then nothing is due for a grace.

        What clients were told of a moment ago seems to be old.
        """
        offset = self._wall() - self._monotonic()
        jump, self._offset = offset - self._offset, offset
        if jump > _JUMP:
            self._barred = self._monotonic() + self._grace
        return jump > _JUMP


class BackgroundTask(Beside):
    """Runs a command whenever it may be due, one at a time; the command finds out whether it is."""

    def __init__(
        self, settings: Settings, what: str, schedule: Schedule, *command: str, also: Sequence[str] = ()
    ) -> None:
        """Run *command* by *schedule*, with what the server has of *settings*; messages call it *what*.

        Args:
            also: Further settings that it gets.
        """
        self._settings, self._what, self._schedule, self._command = settings, what, schedule, command
        self._also = also

    def start(self) -> None:
        """Do nothing: it is not due yet."""

    def keep_running(self) -> None:
        """Start the command if it may be due; to be called about every second."""
        if self._schedule.has_jumped():
            echo(f"the clock was set forward; no {self._what} for the time of gc_grace", err=True)
            self.stop()
        if self._process and (status := self._process.poll()) is not None:
            if status:
                echo(f"the {self._what} {how_ended(status)}", err=True)
            self._process = None
        if self._process is None and self._schedule.is_due():
            try:
                self._process = start_child(self._settings, *self._command, also=self._also)
            except OSError as error:
                echo(f"cannot start the {self._what}: {error}", err=True)

    def stop(self) -> None:
        """Stop the command; it may be stopped at any step."""
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._process = None


def background_tasks(settings: Settings) -> tuple[BackgroundTask, ...]:
    """Return what collects garbage and deletes tags as *settings* say."""
    grace, given = settings.gc_grace.total_seconds(), settings.retention_schedule
    parsed = parse_schedule(given) if given else timedelta()
    at = parsed if isinstance(parsed, time_of_day) else None
    interval = parsed.total_seconds() if isinstance(parsed, timedelta) else _LONGEST_LOOK
    retention = Schedule(min(interval, _LONGEST_LOOK), grace, "", at=at)
    garbage = Schedule(settings.gc_interval.total_seconds(), grace, settings.gc_window)
    return (
        BackgroundTask(settings, "garbage collection", garbage, "gc", "--scheduled"),
        BackgroundTask(
            settings, "retention", retention, "retention", "run", "--scheduled", also=["legacy_source"]
        ),
    )


def background_growth(settings: Settings) -> BackgroundTask:
    """Return what notes once a day what is stored."""
    schedule = Schedule(_LONGEST_LOOK, settings.gc_grace.total_seconds(), "", first=_FIRST_NOTE)
    return BackgroundTask(settings, "daily look at what is stored", schedule, "growth", "--scheduled")


def how_ended(status: int) -> str:
    """Return in words how a child ended, by its status as ``subprocess`` has it."""
    if status < 0:
        return f"was killed by signal {-status}"
    return f"failed with status {status}" if status else "ended"


def start_beside(settings: Settings, *command: str) -> Thread:
    """Run a command once, with what the server has of *settings*, and end it with this process.

    Return what waits for its end.
    """
    process = start_child(settings, *command, "--parent", str(os.getpid()), also=["legacy_source"])
    waiting = Thread(target=process.wait, daemon=True)
    waiting.start()
    return waiting


def start_child(settings: Settings, *command: str, also: Sequence[str] = ()) -> Child:
    """Start a command with the settings of the server, and *also*, with a lower priority.

    Raises:
        OSError: it cannot be started.
    """
    process = subprocess.Popen(  # noqa: S603 -- ourselves, with the operator's settings
        [sys.executable, "-m", "dualreg", *command],
        env=child_environment(settings, *also),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the server alone
    )
    niceness = os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS  # over 19 means 19
    with suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, process.pid, niceness)
    return process


def stop_child(process: Child) -> None:
    """Ask a child to end, and kill it if it has not after a few seconds."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    process.kill()
    process.wait()


def child_environment(settings: Settings, *also: str) -> dict[str, str]:
    """Return an environment that gives a child the settings of the server, and *also*, and no others."""
    others = {name: value for name, value in environment().items() if not name.startswith(PREFIX)}
    names = (
        *_SHARED,
        _SHARED_CONNECTIONS,
        *_SHARED_BY_GC,
        *(_SHARED_BY_FOLLOWER if settings.follow else ()),
        *also,
    )
    values = {name: getattr(settings, name) for name in names}
    shared = {f"{PREFIX}{name.upper()}": _as_text(value) for name, value in values.items()}
    return {**others, **shared, f"{PREFIX}DATA": str(settings.data.absolute()), CONFIG_VARIABLE: os.devnull}


def _as_text(value: object) -> str:
    """Return the text of a setting from which it is read again."""
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, dict):
        return json.dumps(chosen(value))
    return "keep" if value is None else str(value)


def end_with(parent: int | None) -> None:
    """From now on, end when the process *parent* is gone, and log as that does; None: do nothing.

    It is asked to end by SIGTERM, and exits a few seconds later in any case.

    Raises:
        click.ClickException: a setting is invalid.
    """
    if parent is None:
        return
    from dualreg.logs.handler import log_messages  # noqa: PLC0415 -- loads megabytes, for children only
    from dualreg.logs.lines import message_line  # noqa: PLC0415 -- likewise

    settings = load_settings(None)  # those that the parent gave it
    log_messages(settings.log_format, settings.log_level)
    if settings.log_format == "json":
        print_as_log(partial(message_line, "json"))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(1)

    Thread(target=watch, daemon=True).start()
