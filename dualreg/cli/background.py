"""The background import: a process beside ``dualreg serve`` that imports the legacy source.

The server starts it and restarts it whenever it exits, for example when the kernel killed it for lack of
memory. It ends with the server, even if the server is killed.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from threading import Thread

from dualreg.cli.options import environment
from dualreg.cli.output import echo
from dualreg.settings import CONFIG_VARIABLE, PREFIX, Settings

#: Settings that the child gets from the server, from whatever origin; it has no others.
_SHARED = ("store", "database", "sparse_indexes", "strict_manifests", "audit", "bridge", "min_free")
_IMPORT_OPTIONS = ("--follow", "10m", "--jobs", "2")
#: Added to the niceness of the server.
_NICENESS = 10
#: Seconds between an exit and the restart.
_RESTART_DELAY = 3.0
#: Seconds that the child has to finish when it is asked to end; what is cut short then is imported later.
_GRACE = 5.0
#: Seconds between two looks at whether the server is alive.
_PARENT_POLL = 0.5


class BackgroundImport:
    """Keeps a low-priority child running that imports the legacy source, then follows it."""

    def __init__(self, settings: Settings) -> None:
        """Import the ``legacy_source`` of *settings*; without one, do nothing."""
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._restart_at = 0.0

    def start(self) -> None:
        """Start the child."""
        if source := self._settings.legacy_source:
            self._process = subprocess.Popen(  # noqa: S603 -- ourselves, with the operator's settings
                [
                    *(sys.executable, "-m", "dualreg", "migrate", "run", source),
                    *(*_IMPORT_OPTIONS, "--parent", str(os.getpid())),
                ],
                env=child_environment(self._settings),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the server alone
            )
            niceness = os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS  # over 19 means 19
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, niceness)

    def keep_running(self) -> None:
        """Restart the child if it has exited, after a delay; to be called about every second."""
        if self._process is None or self._process.poll() is None:
            return
        if not self._restart_at:
            echo("background import exited; restarting", err=True)
            self._restart_at = time.monotonic() + _RESTART_DELAY
        elif time.monotonic() >= self._restart_at:
            self._restart_at = 0.0
            try:
                self.start()
            except OSError as error:  # such as for lack of memory, which must not end the server
                echo(f"cannot restart the background import: {error}", err=True)
                self._restart_at = time.monotonic() + _RESTART_DELAY

    def stop(self) -> None:
        """Stop the child; what it has started is finished if that takes a few seconds."""
        if self._process is None:
            return
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self._process.kill()
        self._process.wait()
        self._process = None


def child_environment(settings: Settings) -> dict[str, str]:
    """Return an environment that gives a child the settings of the server, and no others."""
    others = {name: value for name, value in environment().items() if not name.startswith(PREFIX)}
    shared = {f"{PREFIX}{name.upper()}": str(getattr(settings, name)) for name in _SHARED}
    return {**others, **shared, f"{PREFIX}DATA": str(settings.data.absolute()), CONFIG_VARIABLE: os.devnull}


def end_with(parent: int | None) -> None:
    """From now on, end this process when the process *parent* is gone; None: do nothing.

    It is asked to end by SIGTERM, and exits a few seconds later in any case.
    """
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(1)

    Thread(target=watch, daemon=True).start()
