"""The pass in the background: a process beside ``dualreg serve`` that takes in the legacy source."""

import os
import subprocess
import sys

from dualreg.cli.options import environment
from dualreg.settings import Settings

#: What the child must see as the server does, wherever it had it from.
_SHARED = ("data", "store", "database", "sparse_indexes", "audit")


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
            "--follow",
            "10m",
            "--jobs",
            "2",
        ]
        values = {name: getattr(self._settings, name) for name in _SHARED}
        given = {f"DUALREG_{name.upper()}": str(value) for name, value in values.items() if value != ""}
        self._process = subprocess.Popen(  # noqa: S603 -- ourselves, with what the operator set
            [*command, "--parent", str(os.getpid())],
            env={**environment(), **given},
            preexec_fn=_yield_to_others,  # noqa: PLW1509 -- before any worker thread is there
        )

    def stop(self) -> None:
        """End it, and wait until what it has begun is finished."""
        if self._process:
            self._process.terminate()
            self._process.wait()


def _yield_to_others() -> None:
    os.nice(10)
