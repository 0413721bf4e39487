"""Processes: names of processes, by which others on the same machine know whether they have ended."""

import os
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
#: States in ``/proc/PID/stat`` of a process that has ended and has not been waited for.
_ENDED = ("Z", "X")


def own_name() -> str:
    """Return the name of this process; empty if the system has no ``/proc``.

    It contains what tells the process from others that had its number: the boot of the machine, the PID
    namespace (that of a container) and the time of its start.
    """
    return _name(os.getpid())


def has_ended(name: str) -> bool:
    """Return whether the process called *name* is known to have ended, so that it has no file open.

    False too if that cannot be known: of processes on other machines, in other containers, and before a
    reboot.
    """
    own, there = own_name().split(), name.split()
    if not there or there[:2] != own[:2]:
        return False
    number, started = int(there[2]), there[3]
    try:
        os.kill(number, 0)
        state, threads, since = _stat(number)
    except (ProcessLookupError, FileNotFoundError):
        return True
    except OSError:
        return False
    # A process that is not waited for yet may have threads that still write.
    return since != started or (state in _ENDED and threads <= 1)


def started_at() -> datetime | None:
    """Return when this process started; None: the system has no ``/proc``."""
    try:
        ticks = int(_stat(os.getpid())[2])
    except OSError:
        return None
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return datetime.fromtimestamp(time.time() - age, UTC)


@cache
def _name(number: int) -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (_PROC / "self/ns/pid").stat().st_ino
        return f"{boot} {namespace} {number} {_stat(number)[2]}"
    except OSError:
        return ""


def _stat(number: int) -> tuple[str, int, str]:
    """Return the state of a process, the number of its threads, and when it started.

    Source: proc_pid_stat(5). The command in the second field may contain anything.
    """
    fields = (_PROC / str(number) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[17]), fields[19]
