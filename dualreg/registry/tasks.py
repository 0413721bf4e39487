"""Tasks: what the service does by itself, and when each was last run, by whichever instance."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from dualreg.catalog.database import Catalog, DatabaseFailure
from dualreg.catalog.leading import Duty, is_held
from dualreg.catalog.tasks import TaskRow
from dualreg.messages import safe_line
from dualreg.registry.processes import has_ended, own_name


@dataclass
class TaskRun:
    """A run that goes on; *result* is what it has done, in one line."""

    result: str = ""


@dataclass(frozen=True, slots=True)
class Tasks:
    """Records runs of tasks. Who runs one leads its duty (``catalog.leading``), so there is one at a time."""

    catalog: Catalog

    def list(self) -> Sequence[TaskRow]:
        """Return the last run of each task that ever ran, by name."""
        with self.catalog.read() as tx:
            return tx.tasks.list()

    def find(self, name: str) -> TaskRow | None:
        """Return the last run of a task; None: it never ran."""
        with self.catalog.read() as tx:
            return tx.tasks.find(name)

    def settle(self, row: TaskRow, duty: Duty) -> tuple[TaskRow, bool]:
        """Return the last run of a task as it is now, and whether it goes on.

        One that has not ended and does not go on was interrupted: nobody leads its duty, or its process has
        ended. Of other machines and containers, only the former is known.

        Args:
            row: As it was when it was read.
            duty: What the process that runs the task leads.
        """
        while row.ended_at is None:
            if not has_ended(row.process) and is_held(self.catalog, duty):
                return row, True
            now = self.find(row.name) or row
            if now == row:
                break
            row = now  # it ended meanwhile, or another run has begun
        return row, False

    @contextmanager
    def run(self, name: str) -> Iterator[TaskRun]:
        """Record that a task runs in the block and, at its end, what came of it.

        If that cannot be recorded, as when another process has taken over, the run stays unfinished.
        """
        process, run = own_name(), TaskRun()
        with self.catalog.begin() as tx:
            tx.tasks.begin(name, socket.gethostname(), process)
        try:
            yield run
        except BaseException as error:
            reason = safe_line(error) or type(error).__name__
            with suppress(DatabaseFailure):
                self._end(name, process, reason.partition("\n")[0], failed=True)
            raise
        self._end(name, process, run.result, failed=False)

    def _end(self, name: str, process: str, result: str, *, failed: bool) -> None:
        with self.catalog.begin() as tx:
            tx.tasks.end(name, process, result, failed=failed)
