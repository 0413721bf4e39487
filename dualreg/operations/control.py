"""Control: what lists and starts the tasks of a server, which only the command that serves can."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ListedTask:
    """A task of the service. The fields are keys of ``--json``.

    Attributes:
        schedule: When it is run; never: only if somebody wants it.
        status: running, done, failed, interrupted, or never if it never ran.
        started_at: When the last run began.
        ended_at: When it ended.
        seconds: How long the last run took; null if it has not ended.
        result: What it has done, or in one line why it failed.
        next: When it begins next; null if it is running, or has no schedule.
        instance: Which one ran it last.
    """

    name: str
    schedule: str
    status: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    seconds: float | None = None
    result: str = ""
    next: datetime | None = None
    instance: str = ""


class TaskControl(Protocol):
    """Lists tasks, and starts them in processes beside the server."""

    def list(self, name: str | None = None) -> Sequence[ListedTask]:
        """Return all tasks, or the one of this name if there is, with their last and next runs."""

    def start(self, name: str) -> None:
        """Start a task now, without waiting for its end.

        Raises:
            ValueError: there is no such task, or it is being run.
        """
