"""Tasks: the last run of each."""

from datetime import timedelta

from dualreg.catalog.database import Catalog
from dualreg.catalog.tasks import TaskRow
from tests.conftest import Clock


class TasksContract:
    """The last run of each task, by whichever process."""

    def test_runs_of_tasks(self, catalog: Catalog, clock: Clock) -> None:
        """One for each task; a process that was overtaken does not end the run of the other one."""
        began = clock()
        with catalog.begin() as tx:
            tx.tasks.begin("gc", "one", "process 1")
            tx.tasks.begin("retention", "one", "process 2")
            running = TaskRow("gc", "one", "process 1", began)
            assert tx.tasks.find("gc") == running
            assert [row.name for row in tx.tasks.list()] == ["gc", "retention"]
        clock.advance(timedelta(seconds=5))
        with catalog.begin() as tx:
            tx.tasks.end("gc", "process 1", "disk full", failed=True)
            ended = TaskRow("gc", "one", "process 1", began, clock(), failed=True, result="disk full")
            assert tx.tasks.find("gc") == ended
            tx.tasks.begin("gc", "two", "process 3")
            tx.tasks.end("gc", "process 1", "late", failed=False)
            assert tx.tasks.find("gc") == TaskRow("gc", "two", "process 3", clock())
            assert tx.tasks.find("none") is None
