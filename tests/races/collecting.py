"""A process that collects garbage when it is asked to, over and over if need be, as fast as it can.

It reads a command in each line of its standard input, and answers each in a line of JSON:

* ``once``: collect once; what that deleted.
* ``go``, ``stop``: collect again and again until ``stop``; what was deleted in all.
* ``ahead SECONDS``: have a clock that is ahead of that of others, or behind it.
* ``die POINT``: collect in a process that is killed at a point; the number of the signal that ended it.
"""

import json
import os
import select
import signal
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn

from dualreg.assembly import open_registry
from dualreg.catalog.clock import utc_now
from dualreg.maintenance.gc import Collection
from dualreg.registry import Registry
from dualreg.settings import Settings

#: A method of the store, and whether the process is killed after its first call or before.
POINTS = {
    "before-link": ("set_aside", False),
    "after-link": ("set_aside", True),
    "before-bytes": ("remove", False),
    "after-bytes": ("remove", True),
}


@dataclass
class Collecting:
    """Commands, and what collections deleted since the last answer."""

    settings: Settings
    ahead: timedelta = timedelta(0)
    going: bool = False
    blobs: int = 0
    collections: int = 0
    _registry: Registry | None = field(default=None, init=False)

    def run(self) -> None:
        """Answer until there are no commands any more."""
        while True:
            if self.going and not select.select([sys.stdin.fileno()], [], [], 0)[0]:
                self._collect()
                continue
            words = os.read(sys.stdin.fileno(), 100).decode().split()
            if not words:
                return
            answer = getattr(self, f"do_{words[0]}")(*words[1:])
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()

    def do_once(self) -> dict[str, int]:
        """Collect once."""
        self._collect()
        return self._report()

    def do_go(self) -> dict[str, int]:
        """Collect from now on."""
        self.going = True
        return {}

    def do_stop(self) -> dict[str, int]:
        """Collect no longer."""
        self.going = False
        return self._report()

    def do_ahead(self, seconds: str) -> dict[str, int]:
        """Change the clock."""
        self.ahead = timedelta(seconds=float(seconds))
        return {}

    def do_die(self, point: str) -> int:
        """Collect in a child that kills itself."""
        if self._registry:
            self._registry.close()
            self._registry = None
        pid = os.fork()
        if pid == 0:
            _collect_and_die(self._open(), point)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _collect(self) -> None:
        self.blobs += Collection(self._open()).run().blobs
        self.collections += 1

    def _report(self) -> dict[str, int]:
        found = {"blobs": self.blobs, "collections": self.collections}
        self.blobs = self.collections = 0
        return found

    def _open(self) -> Registry:
        if self._registry is None:
            self._registry = open_registry(self.settings, alone=True)
            self._registry.state.catalog.now = lambda: utc_now() + self.ahead
        return self._registry


def _collect_and_die(registry: Registry, point: str) -> NoReturn:
    """Collect; be killed where the process comes to *point*."""
    try:
        method, is_done = POINTS[point]
        store = registry.state.store
        own = getattr(store, method)

        def die(*given: Any) -> None:
            if is_done:
                own(*given)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(store, method, die)
        Collection(registry).run()
    finally:
        os._exit(0)  # nothing that is the parent's is closed


if __name__ == "__main__":
    Collecting(Settings.from_env(os.environ)).run()
