"""What the service does by itself: when it did so last, and when it does so next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dualreg.operations.control import ListedTask, TaskControl
from dualreg.operations.previews import TaskPreview, preview_of
from dualreg.operations.session import Group


@dataclass(frozen=True, slots=True)
class StartedTask:
    """A task that was started.

    Attributes:
        before: When the run before began; null: there was none. The run that was started begins later.
    """

    name: str
    before: datetime | None


@dataclass(frozen=True)
class TaskRuns(Group):
    """Tasks."""

    def list(self, name: str | None = None) -> Sequence[ListedTask]:
        """List the tasks of the service: when each was run last and is run next, and what came of it.

        Args:
            name: Only the task of this name.
        """
        return self._control().list(name)

    def start(self, name: str) -> StartedTask:
        """Start a task now, and return at once; the list of tasks shows when it has ended, and its result.

        A task is never run twice at once. Of a webhook, what waits is sent now.

        Args:
            name: That of the task, as listed.

        Raises:
            ValueError: there is no such task, or it is being run.
        """
        control = self._control()
        before = next((each.started_at for each in control.list(name)), None)
        control.start(name)
        self.session.record("tasks run", task=name)
        return StartedTask(name, before)

    def preview(self, name: str) -> TaskPreview:
        """Show what a task would delete now: gc, or retention; nothing is changed.

        It takes a few seconds at most: if much is due, not all of it is looked at.

        Args:
            name: That of the task.

        Raises:
            ValueError: there is no preview of it, or this registry follows another one.
            ServerBusy: this process already makes a preview.
        """
        return preview_of(self.session, name)

    def _control(self) -> TaskControl:
        """Return what runs tasks.

        Raises:
            ValueError: this process runs none.
        """
        if self.session.tasks is None:
            raise ValueError("this server runs no tasks; `dualreg serve` does")
        return self.session.tasks
