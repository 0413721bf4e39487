"""SQL of tasks: the last run of each, on any instance."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from dualreg.catalog.dialects import insert
from dualreg.catalog.tables import Tasks


@dataclass(frozen=True, slots=True)
class TaskRow:
    """The last run of a task.

    Attributes:
        instance: The host that it ran on.
        process: The process that ran it, as ``registry.processes`` names it.
        ended_at: None: it goes on, or was interrupted.
        result: What it has done, or in one line why it failed.
    """

    name: str
    instance: str
    process: str
    started_at: datetime
    ended_at: datetime | None = None
    failed: bool = False
    result: str = ""


@dataclass(frozen=True, slots=True)
class TaskQueries:
    """The tasks that ever ran."""

    connection: Connection
    now: datetime

    def begin(self, name: str, instance: str, process: str) -> None:
        """Record that a task begins now, in place of its last run."""
        values = {"instance": instance, "process": process, "started_at": self.now}
        values |= {"ended_at": None, "failed": False, "result": ""}
        row = insert(self.connection, Tasks).values(name=name, **values)
        self.connection.execute(row.on_conflict_do_update(index_elements=[Tasks.name], set_=values))

    def end(self, name: str, process: str, result: str, *, failed: bool) -> None:
        """Record that the run of a task by a process ends now, unless another one has begun since."""
        own = (Tasks.name == name) & (Tasks.process == process)
        ended = update(Tasks).where(own).values(ended_at=self.now, failed=failed, result=result)
        self.connection.execute(ended)

    def find(self, name: str) -> TaskRow | None:
        """Return the last run of a task; None: it never ran."""
        row = self.connection.execute(select(Tasks.__table__).where(Tasks.name == name)).one_or_none()
        return TaskRow(**row._asdict()) if row else None

    def list(self) -> Sequence[TaskRow]:
        """Return the last run of each task, by name."""
        query = select(Tasks.__table__).order_by(Tasks.name)
        return [TaskRow(**row._asdict()) for row in self.connection.execute(query)]
