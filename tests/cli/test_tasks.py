"""Tasks of the service run when they are due, once, on one instance, and say what came of it."""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

from dualreg.assembly import open_catalog, open_registry, prepare
from dualreg.catalog.clock import utc_now
from dualreg.catalog.leading import Duty, lead
from dualreg.catalog.retention import RetentionRule
from dualreg.catalog.tables import Blobs
from dualreg.cli import background, control, main, tasks, turns
from dualreg.cli.control import ServedTasks
from dualreg.cli.output import minute
from dualreg.cli.tasks import Control
from dualreg.image.names import RepositoryName
from dualreg.maintenance.retention import RetentionRun
from dualreg.maintenance.scrubbing import RUN_AGE
from dualreg.migrate.mirrored import MirrorNotes
from dualreg.operations import previews
from dualreg.operations.tasks import StartedTask
from dualreg.registry import processes
from dualreg.settings import Settings
from dualreg.storage.filesystem import FilesystemStore
from tests.contracts.catalog.rows import push
from tests.contracts.postgresql import DATABASES, migrated_postgresql
from tests.migrate import stock_trees
from tests.programs import DUALREG, dualreg_process, running, unannounced, until

NAME = RepositoryName("team/app")
TAGS = 200


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL database with all tables."""
    with migrated_postgresql() as url:
        yield url


@pytest.fixture(params=DATABASES)
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A registry with many tags, of which a rule keeps one."""
    monkeypatch.setattr(turns, "end_with", lambda _: None)  # these runs have no server
    url = "" if request.param == "sqlite" else request.getfixturevalue("server")
    settings = Settings(data=tmp_path / "data", database=url)
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        if url:
            with registry.state.catalog.engine.begin() as connection:
                connection.exec_driver_sql("TRUNCATE repositories, blobs, tasks, retention_rules CASCADE")
                connection.exec_driver_sql("DELETE FROM service_state WHERE name = 'collected'")
        with registry.state.catalog.begin() as tx:
            push(tx, NAME, *(f"t{number}" for number in range(TAGS)))
        registry.retention.add(RetentionRule("*", newest=1))
    return settings


def run(settings: Settings, line: str, *, code: int = 0, **env: str) -> Result:
    """Run a command, which must exit with *code*."""
    given = {"DUALREG_CONFIG": None, "DUALREG_DATABASE": settings.database, **env}
    words = [*line.split(), "--data", str(settings.data)]
    result = unannounced(CliRunner().invoke(main, words, env=given))
    assert (result.exit_code, "Traceback" in result.output) == (code, False), result.output
    return result


def task(settings: Settings, name: str = "retention", **env: str) -> Mapping[str, Any]:
    """Return what is listed of a task."""
    return next(
        each for each in json.loads(run(settings, "tasks --json", **env).stdout) if each["name"] == name
    )


def tags(settings: Settings) -> int:
    """Return how many tags there are."""
    with closing(open_catalog(settings)) as catalog, catalog.read() as tx:
        return tx.tags.count()


@pytest.mark.slow
def test_a_task_runs_when_it_is_due_and_when_it_is_wanted(settings: Settings) -> None:
    """The list says when it ran, what it did, how long that took, where, and when it is next."""
    assert (task(settings)["status"], task(settings)["started_at"]) == ("never", None)
    run(settings, "retention run --scheduled")
    first = task(settings)
    assert (first["status"], first["result"], tags(settings)) == (
        "done",
        f"deleted {TAGS - 1} tags of {TAGS}",
        1,
    )
    assert (first["schedule"], first["instance"]) == ("24h", os.uname().nodename)
    assert 0 < first["seconds"] < 60
    assert utc_now() + timedelta(hours=23) < _time(first["next"]) < utc_now() + timedelta(hours=24)
    run(settings, "retention run --scheduled")
    assert task(settings) == first
    assert "deleted 0 tags of 1" in run(settings, "tasks run retention").stdout
    assert task(settings)["started_at"] > first["started_at"]
    assert task(settings, DUALREG_RETENTION_SCHEDULE="03:30")["schedule"] == "03:30"
    run(settings, "gc --scheduled", DUALREG_GC_WINDOW="00:00-00:00")
    assert "discarded 0 uploads" in task(settings, "gc")["result"]
    assert task(settings, "gc", DUALREG_GC_INTERVAL="0s")["next"] is None
    listed = run(settings, "tasks").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["TASK", "gc", "retention", "scrub", "growth"]
    assert "unknown task" in run(settings, "tasks run nothing", code=1).output


def _time(text: str) -> Any:
    return utc_now().fromisoformat(text)


@pytest.mark.slow
def test_a_task_runs_once_at_a_time(settings: Settings) -> None:
    """Of two instances, the second leaves it to the first; an operator hears who runs it."""
    with (
        closing(open_registry(settings)) as other,
        lead(other.state.catalog, Duty.RETENTION) as led,
    ):
        assert led
        with other.task_runs.run("retention"):
            run(settings, "retention run --scheduled")
            refused = run(settings, "tasks run retention", code=1)
            assert f"is being run by {os.uname().nodename}" in refused.output
            assert (task(settings)["status"], task(settings)["next"]) == ("running", None)
            run(settings, "tasks run gc")
    assert tags(settings) == TAGS
    run(settings, "tasks run retention")
    assert tags(settings) == 1


@pytest.mark.slow
def test_a_server_starts_a_task_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests want that before the catalog knows that it runs; when it has ended, again."""
    children = list[Thread]()

    def start_beside(*words: Any) -> Thread:
        children.append(background.start_beside(*words))
        return children[-1]

    monkeypatch.setattr(control, "start_beside", start_beside)

    def start() -> str:
        try:
            served.start("retention")
        except ValueError as error:
            return str(error)
        return ""

    with closing(open_registry(settings)) as registry, ThreadPoolExecutor(4) as pool:
        served = ServedTasks(registry, settings)
        answers = sorted(each.result() for each in [pool.submit(start) for _ in range(4)])
        assert [text.partition(";")[0] for text in answers] == ["", *["retention was started already"] * 3]
        assert until(lambda: registry.tags.count() == 1)
        assert until(lambda: not start())
    for child in children:
        child.join(180)  # the tests after this use the same database


@pytest.mark.slow
def test_a_run_of_a_machine_that_is_gone_is_in_nobodys_way(settings: Settings) -> None:
    """Whether its process goes on is not known here, as of a container that died; the lease tells."""
    started = list[str]()
    with closing(open_registry(settings)) as registry:
        with registry.state.catalog.begin() as tx:
            tx.tasks.begin("retention", "there", "another-boot 1 1 1")
        control = Control(registry, settings, started.append)
        with lead(registry.state.catalog, Duty.RETENTION):
            assert (task(settings)["status"], task(settings)["next"]) == ("running", None)
            with pytest.raises(ValueError, match="run by there"):
                control.start("retention")
        listed = task(settings)
        assert (listed["status"], listed["instance"]) == ("interrupted", "there")
        assert _time(listed["next"]) <= utc_now()
        control.start("retention")
    assert started == ["retention"]


def test_a_run_that_ends_while_it_is_looked_at_was_not_interrupted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was unfinished when it was read, and nobody leads any longer."""
    with closing(open_registry(settings)) as registry:
        runs = registry.task_runs
        with registry.state.catalog.begin() as tx:
            tx.tasks.begin("retention", "there", "another-boot 1 1 1")

        def end(*_: object) -> bool:
            with registry.state.catalog.begin() as tx:
                tx.tasks.end("retention", "another-boot 1 1 1", "all well", failed=False)
            return False

        monkeypatch.setattr("dualreg.registry.tasks.is_held", end)
        row, running = runs.settle(runs.list()[0], Duty.RETENTION)
        assert (row.result, running) == ("all well", False)
        assert row == runs.find("retention")
        assert runs.find("gc") is None


@pytest.mark.sqlite  # on PostgreSQL, a lock of the database is taken instead of a file's
def test_what_root_locks_stays_the_services(tmp_path: Path) -> None:
    """A server under another account has to lock it, too."""
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    if os.geteuid() == 0:
        os.chown(settings.data, 65534, 65534)
    run(settings, "tasks run gc")
    owners = {path.stat().st_uid for path in settings.data.glob("*-collection")}
    assert owners == {settings.data.stat().st_uid}


def test_nobody_waits_for_the_end_of_a_run_that_was_interrupted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor takes one for done that has failed, of a task that goes on all the time."""
    monkeypatch.setattr(tasks, "_POLL", 0.01)
    with closing(open_registry(settings)) as registry:
        catalog = registry.state.catalog

        def begin(_: str) -> None:
            with catalog.begin() as tx:
                tx.tasks.begin("scrub", "here", ended)

        def fail(_: str) -> None:
            with catalog.begin() as tx:
                tx.tasks.begin("scrub", "here", "")
                tx.tasks.end("scrub", "", "no room", failed=True)

        with running(["true"], settings.data / "log", {}) as process:
            ended = processes._name(process.pid)
            assert until(lambda: process.poll() is not None)
        for start, said in ((begin, "scrub: interrupted: "), (fail, "scrub: failed: no room")):
            admin = SimpleNamespace(tasks=_Served(Control(registry, settings, start)))
            with pytest.raises(click.ClickException, match=said):
                tasks._run_there(admin, "scrub")


class _Served:
    """The tasks of a server."""

    def __init__(self, control: Control) -> None:
        self.list, self._start = control.list, control.start

    def start(self, name: str) -> StartedTask:
        """Start one."""
        before = next(each.started_at for each in self.list() if each.name == name)
        self._start(name)
        return StartedTask(name, before)


@pytest.mark.slow
def test_a_task_that_fails_says_why(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, for the one who runs it and for those who look later; it is tried again when it is due."""

    def fail(_: object) -> None:
        raise OSError(28, "No space left on device\nand more")

    monkeypatch.setattr(RetentionRun, "run", fail)
    assert "No space left on device" in run(settings, "retention run --scheduled", code=1).output
    failed = task(settings)
    assert failed["status"] == "failed"
    assert "No space left on device" in failed["result"]
    assert "\n" not in failed["result"]
    assert failed["next"] > failed["started_at"]
    monkeypatch.undo()
    run(settings, "tasks run retention")
    assert task(settings)["status"] == "done"


@pytest.mark.slow
def test_a_task_by_a_clock_that_is_wrong(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is deleted by ages that cannot be right; what began in the future did not."""
    monkeypatch.setattr(turns, "utc_now", lambda: utc_now() + timedelta(days=3))
    assert "is not run: the clocks" in run(settings, "retention run --scheduled").stderr
    assert "is not run: the clocks" in run(settings, "tasks run retention", code=1).output
    monkeypatch.undo()
    monkeypatch.setattr(turns, "end_with", lambda _: None)
    assert (task(settings)["status"], tags(settings)) == ("never", TAGS)
    with closing(open_catalog(settings)) as catalog, catalog.begin() as tx:
        tx.tasks.begin("retention", "there", "")
        tx.tasks.end("retention", "", "", failed=False)
        tx.connection.exec_driver_sql("UPDATE tasks SET started_at = '2100-01-01 00:00:00+00:00'")
    run(settings, "retention run --scheduled")
    assert tags(settings) == 1


@pytest.mark.slow
def test_a_task_that_was_killed_is_due_again(settings: Settings) -> None:
    """The list says that it was interrupted; the next process takes over, and does the rest."""
    env = {"DUALREG_DATA": f"{settings.data}", "DUALREG_DATABASE": settings.database, "DUALREG_GC_RATE": "50"}
    with running([DUALREG, "tasks", "run", "retention"], settings.data / "log", env) as process:
        assert until(lambda: tags(settings) < TAGS, 60)
        assert task(settings)["status"] == "running"
        process.send_signal(signal.SIGKILL)
        assert until(lambda: process.poll() is not None)
    assert 1 < tags(settings) < TAGS
    killed = task(settings)
    assert (killed["status"], killed["seconds"]) == ("interrupted", None)
    assert _time(killed["next"]) <= utc_now()
    run(settings, "retention run --scheduled")
    assert (task(settings)["status"], tags(settings)) == ("done", 1)


def test_what_a_task_would_delete(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as a short look finds it: the first tags, with the rule; nothing is changed."""
    found = json.loads(run(settings, "tasks preview retention --json").stdout)
    assert (found["result"], found["complete"]) == (f"would delete {TAGS - 1} tags of {TAGS}", True)
    assert len(found["entries"]) == 50
    assert found["entries"][0]["what"].startswith("team/app:t")
    assert found["entries"][0]["why"] == "not kept by *:* (newest 1)"
    lines = run(settings, "tasks preview gc").stdout.splitlines()
    assert lines[-1] == "gc: would delete 0 idle uploads, 0 images of upstreams, and 0 blobs of 0 bytes"
    monkeypatch.setattr(previews, "_LIMIT", 64)
    lines = run(settings, "tasks preview retention").stdout.splitlines()
    assert lines[-2:] == [
        f"retention: would delete 64 tags of {TAGS}",
        "There may be more: not all that is due was looked at.",
    ]
    monkeypatch.setattr(previews, "_SECONDS", 0.0)
    assert not json.loads(run(settings, "tasks preview retention --json").stdout)["complete"]
    assert (tags(settings), task(settings)["status"]) == (TAGS, "never")
    assert "only of gc, retention" in run(settings, "tasks preview scrub", code=1).output


@pytest.mark.slow
def test_mirror_rules_are_tasks(tmp_path: Path) -> None:
    """They are listed with the others, by their own notes, and run by name."""
    stock = stock_trees.small(tmp_path / "stock")
    rule = {"pull": f"registry-tree:{stock.root}", "prefix": "mirror", "schedule": "6h"}
    chosen = {"DUALREG_MIRRORS": json.dumps({"stock": rule})}
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    assert (task(settings, "mirror/stock", **chosen)["status"], tags(settings)) == ("never", 0)
    assert "looked at" in run(settings, "tasks run mirror/stock", **chosen).stdout
    assert tags(settings) > 0
    listed = task(settings, "mirror/stock", **chosen)
    assert (listed["status"], listed["schedule"], listed["result"]) == ("done", "6h", "")
    assert utc_now() + timedelta(hours=5) < _time(listed["next"]) < utc_now() + timedelta(hours=6)
    _check_that_one_process_copies(settings, chosen)
    assert "unknown task" in run(settings, "tasks run mirror/none", code=1, **chosen).output


def _check_that_one_process_copies(settings: Settings, chosen: Mapping[str, str]) -> None:
    """Check that a rule is run by one process at a time, of whichever instance, and listed so."""
    here = Settings.from_env({**chosen, "DUALREG_DATA": str(settings.data)})
    with closing(open_registry(here)) as other:
        notes, control = MirrorNotes(other.state.catalog), Control(other, here, lambda _: None)
        with notes.exclusive("stock"):
            notes.begin("stock")
            listed = task(settings, "mirror/stock", **chosen)
            assert (listed["status"], listed["next"]) == ("running", None)
            refused = run(settings, "tasks run mirror/stock", code=1, **chosen)
            assert "another process copies by the mirror rule stock" in refused.output
            with pytest.raises(ValueError, match="is being run by another process"):
                control.start("mirror/stock")
        control.start("mirror/stock")
        assert [each.status for each in control.list("mirror/stock")] == ["interrupted"]
        assert control.list("mirror/none") == []
    run(settings, "tasks run mirror/stock", **chosen)
    assert task(settings, "mirror/stock", **chosen)["status"] == "done"


@pytest.mark.slow
def test_verifying_is_a_task(tmp_path: Path) -> None:
    """Which goes on all the time, and is done at once if an operator wants that; damage is counted."""
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    assert task(settings, "scrub")["result"] == "no sound blobs, 0 damaged"
    with closing(open_registry(settings)) as registry:
        for content in (b"first", b"second"):
            lost = registry.uploads.ingest(NAME, [content]).digest
        with registry.state.catalog.engine.begin() as connection:
            connection.execute(update(Blobs).values(verified_at=utc_now() - RUN_AGE))
        FilesystemStore(settings.data).path(lost).unlink()
    listed = task(settings, "scrub", DUALREG_FSCK_RATE="2M")
    assert (listed["schedule"], listed["status"]) == ("always, 2.0 MiB/s", "running")
    assert listed["result"].startswith(f"sound since {minute(utc_now() - RUN_AGE)[:10]}")
    assert "verified 2 blobs, 1 lost or damaged" in run(settings, "tasks run scrub").stdout
    listed = task(settings, "scrub", DUALREG_FSCK_RATE="0")
    assert (listed["schedule"], listed["status"], listed["next"]) == ("never", "done", None)
    assert listed["result"].startswith("verified 2 blobs, 1 lost or damaged; sound since ")
    assert listed["result"].endswith(", 1 damaged")
    assert "verified 1 blob, 1 lost" in run(settings, "tasks run scrub").stdout  # the other one was lately


@pytest.mark.slow
def test_the_server_runs_tasks(tmp_path: Path) -> None:
    """Those that are due, beside its workers; also one that a rule of an operator makes useful later.

    One that fails is in the log, whichever part of the server waits for its end.
    """
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    with closing(open_registry(settings)) as registry, registry.state.catalog.begin() as tx:
        push(tx, NAME, "a", "b")
    with dualreg_process(tmp_path / "data", retention_schedule="1s", gc_interval="1s") as serving:
        assert until(lambda: task(settings, "gc")["status"] == task(settings)["status"] == "done", 180)
        run(settings, "retention add * --newest 1")
        assert until(lambda: tags(settings) == 1, 180)
        assert "failed" not in serving.log.read_text()
        with closing(open_catalog(settings)) as catalog, catalog.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE tasks RENAME TO lost")
        said = "the garbage collection failed with status 1\n"
        assert until(lambda: said in serving.log.read_text(), 180)
