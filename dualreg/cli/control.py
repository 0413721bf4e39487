"""The tasks of a server: listed, and started beside it, by what is loaded when that is first needed."""

from collections.abc import Sequence
from functools import partial
from importlib import import_module

from dualreg.cli.background import start_beside
from dualreg.operations.control import ListedTask, TaskControl
from dualreg.registry import Registry
from dualreg.settings import Settings


class ServedTasks:
    """Lists the tasks of a server, and starts them."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """List those of *settings*, as *registry* has recorded them."""
        self._registry, self._settings = registry, settings

    def list(self) -> Sequence[ListedTask]:
        return self._control().list()

    def start(self, name: str) -> None:
        self._control().start(name)

    def _control(self) -> TaskControl:
        start = partial(start_beside, self._settings, "tasks", "run")
        tasks = import_module("dualreg.cli.tasks")  # which loads much
        control: TaskControl = tasks.Control(self._registry, self._settings, start)
        return control
