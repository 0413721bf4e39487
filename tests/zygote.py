"""A process that has imported dualreg already, and forks one for each command or gunicorn that a test runs.

It stands in for the interpreter's start and end, which cost more than most tests, and for the migrations of
an empty SQLite catalog. Tests that are about the command itself pass ``fresh=True`` to ``programs.running``,
or run it on their own.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gunicorn.app import wsgiapp

import dualreg
from tests import directories, template

#: What it can run, by name: each reads ``sys.argv``.
PROGRAMS: Mapping[str, Callable[[], object]] = {
    "dualreg": lambda: importlib.import_module("dualreg.cli").main(prog_name="dualreg"),
    "gunicorn": lambda: wsgiapp.run(prog="gunicorn"),
    "by-clock": lambda: importlib.import_module("tests.instances.skewed").main(),
    "webhook-server": lambda: importlib.import_module("tests.webhooks.server").run(),
    "webhook-sender": lambda: importlib.import_module("tests.webhooks.sender").main(),
}
_TICK = 0.005


class Zygote:
    """The process, spoken to in lines of JSON over its standard input and output."""

    def __init__(self, schema: Sequence[str]) -> None:
        """Start it; its processes make SQLite catalogs by the statements of *schema*."""
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        assert self._process.stdin
        self._process.stdin.write(json.dumps(schema) + "\n")

    def start(self, words: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path) -> "Forked":
        """Run a command, one of ``PROGRAMS``, in *cwd*, its output at the end of *log*."""
        os.umask(umask := os.umask(0))
        pid = self.ask([[*words], str(log.absolute()), dict(env), str(cwd), umask])
        assert pid
        return Forked(self, pid, words)

    def ask(self, question: object) -> int | None:
        """Return the answer to a command (its process id), or to a process id (its exit code, if any)."""
        with self._lock:
            assert self._process.stdin
            assert self._process.stdout
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            answer: int | None = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class Forked:
    """A process of it, with as much of ``subprocess.Popen`` as tests use."""

    def __init__(self, zygote: Zygote, pid: int, words: Sequence[str]) -> None:
        """Remember which it is."""
        self.pid, self.args = pid, words
        self.returncode: int | None = None
        self._zygote = zygote

    def poll(self) -> int | None:
        """Return the exit code, if it has ended."""
        if self.returncode is None:
            self.returncode = self._zygote.ask(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return the exit code."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(_TICK)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def _serve() -> None:
    """Answer questions until there are no more."""
    for module in pkgutil.walk_packages(dualreg.__path__, "dualreg."):
        if module.name != "dualreg.__main__":
            importlib.import_module(module.name)  # to be there in each child
    if directories.ON_POSTGRESQL:
        directories.install()
    schema = json.loads(sys.stdin.readline())
    template.install(lambda: schema)
    gc.collect()
    gc.freeze()
    running = set[int]()
    for line in sys.stdin:
        question = json.loads(line)
        if isinstance(question, int):
            pid, status = os.waitpid(question, os.WNOHANG)
            running.discard(pid)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                _run(*question)
            running.add(answer)
        print(json.dumps(answer), flush=True)  # noqa: T201 -- the answer
    for pid in running:  # the tests were killed
        os.kill(pid, signal.SIGTERM)


def _run(words: list[str], log: str, env: dict[str, str], folder: str, umask: int) -> None:
    """Be the command; end as the interpreter would, but for what it takes apart then."""
    with open(os.devnull) as nothing, open(log, "ab") as output:  # noqa: PTH123 -- for descriptors
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    os.umask(umask)
    sys.argv = words
    code = 1
    try:
        PROGRAMS[Path(words[0]).name]()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 -- as the interpreter
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
