"""Real programs as subprocesses: found or skipped, started on free ports, stopped by their pid."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

#: Set where every program must be there: a skip for lack of one becomes a failure.
STRICT = "STRICT_TESTS"


def require(*programs: str, package: str) -> None:
    """Skip the test unless all *programs* are installed, naming the Debian *package* that brings them."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        reason = f"needs {', '.join(missing)} (Debian package {package})"
        if os.environ.get(STRICT):
            pytest.fail(reason)
        pytest.skip(reason)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run *command* in the background for the block, its output in *log*; then end it and all it started."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*map(str, command)], stdout=output, stderr=output, env={**os.environ, **(env or {})}
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 20) -> None:
    """Wait until *url* answers anything; fail with the log if the process ends or time runs out."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 -- our own server
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"{url} did not come up:\n{log.read_text()[-4000:]}")


@contextmanager
def dualreg_server(data: Path, **settings: str | int) -> Iterator[str]:
    """Run ``dualreg serve`` over *data* on a free port, with *settings* in its environment; yield HOST:PORT."""
    port = free_port()
    log = data.parent / f"dualreg-{port}.log"
    env = {f"DUALREG_{name.upper()}": str(value) for name, value in settings.items()}
    command = [Path(sys.executable).with_name("dualreg"), "serve"]
    env = {"DUALREG_BIND": f"127.0.0.1:{port}", "DUALREG_DATA": str(data), **env}
    with running(command, log, env) as process:
        wait_until_up(f"http://127.0.0.1:{port}/v2/", process, log)
        yield f"127.0.0.1:{port}"
