"""The pass in the background: a process beside ``dualreg serve`` that takes in the legacy source.

It is two: one that takes in, and one that begins it again whenever it ends, be it for lack of memory.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import click

from dualreg.cli.options import environment
from dualreg.settings import CONFIG_VARIABLE, PREFIX, Settings

#: What the child must see as the server does, wherever it had it from; it has no other settings.
_SHARED = ("store", "database", "sparse_indexes", "audit", "bridge")
#: Seconds that a server waits for it when it stops: what is killed in the middle is done again later.
_PATIENCE = 5.0
#: Seconds after which one that ended is begun again, and between looks whether the server is there.
_PAUSE, _LOOK = 3.0, 0.2
_MANNER = ("--follow", "10m", "--jobs", "2")
#: What asks for an end.
_ENDS = (signal.SIGTERM, signal.SIGINT)


class Follower:
    """Takes in everything, then what is new, for as long as the server runs; of low priority."""

    def __init__(self, settings: Settings) -> None:
        """Follow what *settings* name; nothing, if they name nothing."""
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin."""
        source = self._settings.legacy_source
        if not source:
            return
        command = [
            sys.executable,
            "-m",
            "dualreg",
            "migrate",
            "run",
            source,
            *_MANNER,
        ]
        self._process = subprocess.Popen(  # noqa: S603 -- ourselves, with what the operator set
            [*command, "--parent", str(os.getpid())],
            env=follower_environment(self._settings),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a key that stops the server is for the server
            preexec_fn=_yield_to_others,  # noqa: PLW1509 -- before any worker thread is there
        )

    def stop(self) -> None:
        """End it; what it has begun is finished if that takes a few seconds."""
        if self._process is None:
            return
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def follower_environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which a child has the server's settings, and none from elsewhere."""
    given = {name: value for name, value in environment().items() if not name.startswith(PREFIX)}
    shared = {f"{PREFIX}{name.upper()}": str(getattr(settings, name)) for name in _SHARED}
    return {**given, **shared, f"{PREFIX}DATA": str(settings.data.absolute()), CONFIG_VARIABLE: os.devnull}


def supervise(parent: int) -> int:
    """Go on in a child process, and in another one whenever that ends, while the process *parent* lives.

    This returns in the child, with the process that is its parent; the other one ends in here.
    """
    own, asked = os.getpid(), list[int]()
    for number in _ENDS:
        signal.signal(number, lambda number, _: asked.append(number))
    while not asked and os.getppid() == parent:
        child = os.fork()
        if not child:
            for number in _ENDS:
                signal.signal(number, signal.SIG_DFL)
            return own
        _watch(child, asked, parent)
    os._exit(0)


def _watch(child: int, asked: list[int], parent: int) -> None:
    """Wait until the child has ended, and a little more; or end it, as nobody wants it any more."""
    again: float | None = None
    while not asked and os.getppid() == parent:
        if again and time.monotonic() > again:
            return
        if not again and os.waitpid(child, os.WNOHANG)[0]:
            click.echo("What takes in the legacy source has ended; it is begun again.", err=True)
            again = time.monotonic() + _PAUSE
        time.sleep(_LOOK)
    if not again:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)


def _yield_to_others() -> None:
    os.nice(10)
