"""The tasks of a server: listed, and started beside it, by what is loaded when that is first needed."""

from collections.abc import Sequence
from importlib import import_module
from threading import Lock, Thread

from dualreg.cli.background import start_beside
from dualreg.operations.control import ListedTask, TaskControl
from dualreg.registry import Registry
from dualreg.settings import Settings

#: Seconds that the process of a task has to end once the catalog says that the run has.
_MOMENT = 1.0


class ServedTasks:
    """Lists the tasks of a server, and starts them, each once at a time."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """List those of *settings*, as *registry* has recorded them."""
        self._registry, self._settings = registry, settings
        self._started, self._lock = dict[str, Thread](), Lock()

    def list(self, name: str | None = None) -> Sequence[ListedTask]:
        return self._control().list(name)

    def start(self, name: str) -> None:
        self._control().start(name)

    def _control(self) -> TaskControl:
        tasks = import_module("dualreg.cli.tasks")  # which loads much
        control: TaskControl = tasks.Control(self._registry, self._settings, self._begin)
        return control

    def _begin(self, name: str) -> None:
        """Start a process for a task, which takes a while until the catalog says that it runs.

        Raises:
            ValueError: that of an earlier request has not ended.
        """
        if started := self._started.get(name):
            started.join(_MOMENT)
        with self._lock:
            if (started := self._started.get(name)) and started.is_alive():
                raise ValueError(f"{name} was started already; `dualreg tasks` shows when it ends")
            self._started[name] = start_beside(self._settings, "tasks", "run", name)
