"""Real programs as subprocesses: found or skipped, started on free ports, stopped by their pid."""

import atexit
import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import NamedTuple, NoReturn
from unittest.mock import patch

import pytest
from click.testing import Result

from tests import quick
from tests.zygote import PROGRAMS, Forked, Zygote

#: The command, as it was installed beside the interpreter that runs the tests.
DUALREG = Path(sys.executable).with_name("dualreg")
#: A process in the background: of any program, or forked.
Process = subprocess.Popen[bytes] | Forked
#: Set where nothing may be lacking: a skip for lack of a program, or of root, becomes a failure.
STRICT = "STRICT_TESTS"


def require(*programs: str, package: str) -> None:
    """Skip the test unless all *programs* are installed, naming the Debian *package* that brings them."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        _lack(f"{', '.join(missing)} (Debian package {package})")


def require_own(program: str) -> None:
    """Skip the test unless *program* is in our environment: not every machine has a package of it."""
    if not DUALREG.with_name(program).exists():
        _lack(f"a package of {program} for this machine")


def require_root() -> None:
    """Skip the test unless root runs it."""
    if os.geteuid() != 0:
        _lack("root")


def _lack(what: str) -> NoReturn:
    """Skip the test for lack of *what*, or fail it where nothing may be lacking."""
    reason = f"needs {what}"
    if os.environ.get(STRICT):
        pytest.fail(reason)
    pytest.skip(reason)


def environment() -> dict[str, str]:
    """Return the environment without settings of dualreg's: nothing from outside configures a test."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DUALREG_")}


def unannounced(result: Result) -> Result:
    """Return what a command printed without the line that says which registry it means."""
    line = re.compile(rb"^Registry: (?:/|http).*\n", re.MULTILINE)
    result.output_bytes = line.sub(b"", result.output_bytes)
    result.stderr_bytes = line.sub(b"", result.stderr_bytes)
    return result


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@cache
def _zygote() -> Zygote:
    """Return the process that commands of ours are forked from; it ends with this one."""
    started = Zygote(quick.schema())
    atexit.register(started.close)
    return started


def start(
    command: Sequence[str | Path],
    log: Path,
    env: Mapping[str, str] | None = None,
    *,
    fresh: bool = False,
    cwd: Path | None = None,
) -> Process:
    """Start *command* in the background, its output in *log*.

    Args:
        fresh: Even a command of ours, or gunicorn, gets an interpreter of its own.
    """
    words, env = [*map(str, command)], {**environment(), **(env or {})}
    if words[0] in map(str, map(DUALREG.with_name, PROGRAMS)) and not fresh:
        return _zygote().start(words, log, env, cwd or Path.cwd())
    with log.open("ab") as output:
        return subprocess.Popen(words, stdout=output, stderr=output, env=env, cwd=cwd)


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    env: Mapping[str, str] | None = None,
    *,
    fresh: bool = False,
    end: signal.Signals = signal.SIGTERM,
) -> Iterator[Process]:
    """Run *command* like ``start`` for the block; then send it *end*, which ends it and all it started."""
    log.touch()
    process = start(command, log, env, fresh=fresh)
    try:
        yield process
    finally:
        process.send_signal(end)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def children(pid: int) -> list[int]:
    """Return the ids of a process's children: of a server, its workers."""
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def memory(pid: int, which: str = "VmHWM") -> int:
    """Return the most bytes of memory that a process ever had; with ``VmRSS``, those that it has now.

    None are 0: it has ended.

    Source: proc_pid_status(5).
    """
    found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def until(condition: Callable[[], object], seconds: float = 180) -> bool:
    """Wait until *condition* holds; return whether it ever did.

    A busy machine can let processes with a low priority, such as the tasks of a server, wait for a minute.
    Between two looks, at least as long passes as the first took: what is waited for needs the processor, too.
    """
    deadline = time.monotonic() + seconds
    while (began := time.monotonic()) < deadline:
        if condition():
            return True
        time.sleep(max(0.01, time.monotonic() - began))
    return False


def wait_for(condition: Callable[[], object], process: Process, log: Path, seconds: float = 60) -> None:
    """Wait until *condition* holds; fail with the log if the process ends or time runs out."""
    if not until(lambda: process.poll() is not None or condition(), seconds) or process.poll() is not None:
        pytest.fail(f"{process.args} did not come up:\n{log.read_text()[-4000:]}")


def wait_until_up(url: str, process: Process, log: Path, seconds: float = 60) -> None:
    """Wait until *url* answers anything; fail with the log if the process ends or time runs out."""
    wait_for(lambda: _answers(url), process, log, seconds)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 -- our own server
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


class Serving(NamedTuple):
    """A running ``dualreg serve``: HOST:PORT, its main process, and the log of what it wrote."""

    host: str
    process: Process
    log: Path


@contextmanager
def dualreg_process(
    data: Path, *, wrapper: Sequence[str | Path] = (), fresh: bool = False, **settings: str | int
) -> Iterator[Serving]:
    """Run ``dualreg serve`` over *data* on a free port, with *settings* in its environment.

    Args:
        wrapper: A command that is given ours to run.
        fresh: See ``start``.
    """
    host = f"127.0.0.1:{free_port()}"
    log = data.parent / f"dualreg-{host.rpartition(':')[2]}.log"
    env = {f"DUALREG_{name.upper()}": str(value) for name, value in settings.items()}
    env = {"DUALREG_BIND": host, "DUALREG_DATA": str(data), **env}
    with running([*wrapper, DUALREG, "serve"], log, env, fresh=fresh) as process:
        wait_until_up(f"http://{host}/v2/", process, log)
        yield Serving(host, process, log)


@contextmanager
def hopping(hosts: Sequence[str]) -> Iterator[None]:
    """Have each connection of clients reach another of *hosts* than the one before, as behind a proxy."""
    turns = count()

    def connect(connection: HTTPConnection) -> None:
        host, _, port = hosts[next(turns) % len(hosts)].partition(":")
        connection.sock = socket.create_connection((host, int(port)), connection.timeout)

    with patch.object(HTTPConnection, "connect", connect):
        yield


@contextmanager
def dualreg_server(data: Path, **settings: str | int) -> Iterator[str]:
    """Run ``dualreg serve`` like dualreg_process; yield HOST:PORT."""
    with dualreg_process(data, **settings) as serving:
        yield serving.host
        gc.collect()  # connections that nobody uses are closed, so that it need not wait for them
