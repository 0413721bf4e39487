"""Tasks: what the service does by itself, and when each was last run, by whichever instance."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from dualreg.catalog.database import Catalog, DatabaseFailure
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


def is_running(row: TaskRow) -> bool:
    """Return whether a run has not ended, as far as is known: that of another machine may be interrupted."""
    return row.ended_at is None and not has_ended(row.process)
