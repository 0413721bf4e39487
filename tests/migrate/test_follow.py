"""Repeated passes over a source, and the process beside the server that makes them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest

from dualreg.cli.background import background_import, child_environment
from dualreg.migrate.base import ImportOptions, Survey
from dualreg.migrate.follow import Passes
from dualreg.migrate.plan import Entry
from dualreg.migrate.run import Existing, Outcome
from dualreg.migrate.selection import Selection, make_plan
from dualreg.migrate.sources.base import SourceInvalid
from dualreg.migrate.transports import SourceOptions, survey_source
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests.migrate.commands import command
from tests.migrate.trees import LAYERS, Tree, image_id
from tests.programs import DUALREG, children, dualreg_process, environment, until
from tests.protocol.clients.wire import Wire

PAUSE = timedelta(seconds=0.01)


@contextmanager
def no_progress(_: int, __: int) -> Iterator[Callable[[int, int], None]]:
    """Show nothing."""
    yield lambda *_: None


def followed(
    registry: Registry,
    data: Path,
    tree: Tree,
    before: Callable[[int], object],
    passes: int,
    *,
    on_failure: Callable[[Exception, int], None] = lambda *_: None,
) -> list[Sequence[Outcome]]:
    """Make so many passes; return the outcomes of those that did something.

    Args:
        before: Called before each pass with its number, from 1.
    """
    results: list[Sequence[Outcome]] = []
    stop, number = Event(), 0
    source = f"v1-tree:{tree.root}"

    def next_plan() -> tuple[Survey, list[Entry]]:
        nonlocal number
        number += 1
        if number == passes:
            stop.set()
        before(number)
        found = survey_source(source, SourceOptions())
        return found, make_plan(found, Selection())

    journals = Settings(data=data).journals
    own = Passes(
        registry, journals, source, ImportOptions(), Existing.NEWER, 1, lambda *_, **__: None, no_progress
    )
    own.follow(PAUSE, stop, next_plan, lambda _, outcomes: results.append(outcomes), on_failure)
    assert number == passes
    return results


def test_a_source_that_is_gone_for_a_while(tmp_path: Path, data: Path, opened: Registry) -> None:
    """A pass fails and is reported; the next one imports what was pushed in between."""
    tree, away = Tree(tmp_path / "old"), tmp_path / "away"
    tree.tag("team/app", "1", tree.image("a", LAYERS["a"]))
    failures = []

    def happens(number: int) -> None:
        if number == 2:
            tree.root.rename(away)
        if number == 3:
            away.rename(tree.root)
            tree.tag("team/app", "2", tree.image("b", LAYERS["b"]))

    results = followed(opened, data, tree, happens, 4, on_failure=lambda *failure: failures.append(failure))
    assert [[(each.entry.tag, each.status) for each in outcomes] for outcomes in results] == [
        [("1", "done")], [("2", "done")],
    ]  # fmt: skip
    ((error, number),) = failures
    assert isinstance(error, SourceInvalid)
    assert number == 2


def test_skipped_tags_are_reported_once(tmp_path: Path, data: Path, opened: Registry) -> None:
    """A tag that cannot be imported is in the journal of one pass, or of another if its reason changes."""
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "1", tree.image("a", LAYERS["a"]))
    tree.tag("team/app", "lost", image_id("none"))
    path = tree.root / "repositories/team/app/tag_lost"

    def happens(number: int) -> None:
        if number == 3:
            path.write_bytes(b"")
        if number == 5:
            path.write_text(image_id("a"))

    results = followed(opened, data, tree, happens, 6)
    assert [[(each.entry.tag, each.status) for each in outcomes] for outcomes in results] == [
        [("1", "done"), ("lost", "skipped")], [("lost", "skipped")], [("lost", "done")],
    ]  # fmt: skip
    assert results[1][0].reason == "corrupt: the file is empty"


def test_the_caller_decides_which_failure_ends_it(tmp_path: Path, data: Path, opened: Registry) -> None:
    """What ``on_failure`` raises ends it all."""

    def on_failure(error: Exception, number: int) -> None:
        assert number == 1
        raise error

    with pytest.raises(SourceInvalid, match="nowhere"):
        followed(opened, data, Tree(tmp_path / "nowhere"), lambda _: None, 1, on_failure=on_failure)


@pytest.mark.slow
def test_a_source_that_was_never_there(tmp_path: Path, data: Path) -> None:
    """In the foreground the command fails, in the background it is tried again."""
    source = f"v1-tree:{tmp_path / 'nowhere'}"
    result = command(data, f"run {source} --follow 1s", code=2)
    assert result.stderr.startswith("Error: ")
    assert "nowhere" in result.stderr
    line = [DUALREG, "migrate", "run", source, "--follow", "1s", "--data", data, "--parent", os.getpid()]
    with subprocess.Popen([*map(str, line)], env=environment(), stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr
        assert [child.stderr.readline().startswith("import pass failed: ") for _ in range(2)] == [True, True]
        child.terminate()
        assert child.wait(20) == 0
        assert child.stderr.read() == ""


@pytest.mark.slow
def test_failed_tags_are_retried(tmp_path: Path, data: Path, opened: Registry) -> None:
    """Not in every pass, but after some: the source may have been repaired."""
    tree = Tree(tmp_path / "old")
    layer = tree.root / "images" / tree.image("a", LAYERS["a"]) / "layer"
    layer.write_bytes(LAYERS["b"])
    tree.tag("team/app", "1", layer.parent.name)
    results = followed(opened, data, tree, lambda n: n == 2 and layer.write_bytes(LAYERS["a"]), 8)
    assert [[each.status for each in outcomes] for outcomes in results] == [["failed"], ["done"]]


def test_the_child_has_the_servers_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the folder nor the environment changes them; empty values are passed on too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dualreg.toml").write_text('database = "sqlite:////elsewhere"\nworkers = "nonsense"\n')
    monkeypatch.setenv("DUALREG_STORE", "file:///elsewhere")
    monkeypatch.setenv("DUALREG_CONFIG", "/nowhere")
    settings = Settings(data=Path("here"), bridge="off", sparse_indexes=True)
    seen = Settings.from_env(child_environment(settings))
    assert (seen.store_url, seen.database_url) == (settings.store_url, settings.database_url)
    assert (seen.bridge, seen.sparse_indexes, seen.audit_target) == ("off", True, settings.audit_target)


def child_of(pid: int) -> int | None:
    """Return the background import of a server."""
    for each in children(pid):
        with suppress(FileNotFoundError):  # it has just ended
            if b"--follow" in Path(f"/proc/{each}/cmdline").read_bytes():
                return each
    return None


def alive(pid: int) -> bool:
    """Return whether the process runs."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z" not in stat.read_text()


@pytest.mark.slow
def test_a_child_that_is_killed_is_restarted(tmp_path: Path, data: Path) -> None:
    """As the kernel kills for lack of memory; the server serves on, and both end together."""
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "1", tree.image("a", LAYERS["a"]))
    with dualreg_process(data, legacy_source=f"v1-tree:{tree.root}") as (host, process, log):
        assert until(lambda: child_of(process.pid))
        first = child_of(process.pid)
        assert first
        assert os.getsid(first) != os.getsid(process.pid)  # Ctrl-C in a terminal is not sent to it
        assert os.getpriority(os.PRIO_PROCESS, first) > os.getpriority(os.PRIO_PROCESS, process.pid)
        os.kill(first, signal.SIGKILL)
        assert until(lambda: child_of(process.pid) not in (None, first))
        second = child_of(process.pid)
        assert second
        assert until(lambda: "1 done" in log.read_text())
        assert Wire(host).send("GET", "/v2/").status == 200
    assert process.returncode == 0
    assert not alive(second)
    text = log.read_text()
    assert text.count("the background import was killed by signal 9; restarting") == 1
    assert "Run again" not in text
    assert "MiB" not in text
    assert "Worker" not in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_the_child_ends_with_a_server_that_is_killed(tmp_path: Path, data: Path) -> None:
    """Within seconds, although the server cannot stop it."""
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "1", tree.image("a", LAYERS["a"]))
    with dualreg_process(data, legacy_source=f"v1-tree:{tree.root}") as (_, process, log):
        assert until(lambda: "1 done" in log.read_text())
        child = child_of(process.pid)
        assert child
        process.kill()
        process.wait()
        assert until(lambda: not alive(child))
    assert "restarting" not in log.read_text()


@pytest.mark.slow
def test_a_child_that_hangs_does_not_hold_the_server_up(tmp_path: Path, data: Path) -> None:
    """The server ends although an import is in the middle of a layer, which a later pass imports."""
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "1", tree.image("a", LAYERS["a"]))
    background = background_import(Settings(data=data, legacy_source=f"v1-tree:{tree.root}"))
    background.start()
    assert background._process
    child = background._process.pid
    os.kill(child, signal.SIGSTOP)
    began = time.monotonic()
    background.stop()
    assert time.monotonic() - began < 15
    assert not alive(child)


def test_a_child_that_cannot_be_restarted(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for lack of memory: that is printed, and tried again, and does not end the server."""
    started = []

    def popen(*line: object, **_: object) -> subprocess.Popen[bytes]:
        started.append(line)
        if len(started) == 2:
            raise BlockingIOError("no more processes")
        return real(["true"])

    real = subprocess.Popen
    monkeypatch.setattr("dualreg.cli.background.subprocess.Popen", popen)
    monkeypatch.setattr("dualreg.cli.background._RESTART_DELAY", 0.0)
    background = background_import(Settings(data=data, legacy_source="v1-tree:/old"))
    background.start()
    assert until(lambda: background.keep_running() or len(started) > 2)
    background.stop()
    assert "cannot restart the background import: no more processes\n" in capsys.readouterr().err


def test_a_child_of_a_server_that_is_nice_already(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a lower priority than that: a higher one is refused to most users, which would end the server."""
    chosen: list[tuple[int, int, int]] = []
    monkeypatch.setattr("dualreg.cli.background.os.getpriority", lambda *_: 15)
    monkeypatch.setattr("dualreg.cli.background.os.setpriority", lambda *priority: chosen.append(priority))
    background = background_import(Settings(data=data, legacy_source="v1-tree:/old"))
    background.start()
    background.stop()
    assert [niceness > 15 for _, _, niceness in chosen] == [True]


@pytest.mark.slow
def test_an_orphan_that_hangs_ends_too(tmp_path: Path) -> None:
    """A child that ignores SIGTERM exits a few seconds after its parent."""
    program = (
        "import os, signal, time\n"
        "from dualreg.cli import background\n"
        "background._GRACE = background._PARENT_POLL = 0.1\n"
        "if not os.fork():\n"
        "    signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
        "    background.end_with(os.getppid())\n"
        "    while True: time.sleep(1)\n"
        "time.sleep(0.3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout == "asked\n"


@pytest.mark.slow
def test_following_in_json(tmp_path: Path, data: Path) -> None:
    """Each pass that did something prints one line at once."""
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "1", tree.image("a", LAYERS["a"]))
    line = [DUALREG, "migrate", "run", f"v1-tree:{tree.root}", "--follow", "1s", "--json", "--data", data]
    with subprocess.Popen([*map(str, line)], env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        result = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert result["counts"] == {"done": 1}
    assert result["tags"][0]["tag"] == "team/app:1"
