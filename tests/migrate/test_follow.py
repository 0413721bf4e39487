"""Passes one after the other: what goes wrong in one of them is no end of it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest

from dualreg.cli.follower import Follower, follower_environment
from dualreg.cli.migrate.passes import Passes
from dualreg.migrate.base import ImportOptions, Survey
from dualreg.migrate.plan import Entry
from dualreg.migrate.run import Existing, Outcome
from dualreg.migrate.selection import Selection, make_plan
from dualreg.migrate.transports import SourceOptions, survey_source
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests.migrate.trees import LAYERS, Tree
from tests.programs import DUALREG, dualreg_process, environment, until

PAUSE = timedelta(seconds=0.01)


def followed(
    registry: Registry, data: Path, tree: Tree, before: Callable[[int], object], passes: int
) -> list[Sequence[Outcome]]:
    """Make so many passes; *before* each, something happens. Return what was told."""
    told: list[Sequence[Outcome]] = []
    stop, number = Event(), 0
    source = f"v1-tree:{tree.root}"

    def look() -> tuple[Survey, list[Entry]]:
        nonlocal number
        number += 1
        if number == passes:
            stop.set()
        before(number)
        found = survey_source(source, SourceOptions())
        return found, make_plan(found, Selection())

    settings = Settings(data=data)
    own = Passes(registry, settings, source, ImportOptions(), Existing.NEWER, 1, lambda *_, **__: None)
    own.follow(PAUSE, stop, look, lambda _, outcomes: told.append(outcomes))
    assert number == passes
    return told


def test_a_source_that_is_gone_for_a_while(
    tmp_path: Path, data: Path, opened: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Costs a pass; what was pushed meanwhile comes with the next."""
    tree, away = Tree(tmp_path / "old"), tmp_path / "away"
    tree.tag("team/app", "1", tree.image("a", LAYERS["a"]))

    def happens(number: int) -> None:
        if number == 2:
            tree.root.rename(away)
        if number == 3:
            away.rename(tree.root)
            tree.tag("team/app", "2", tree.image("b", LAYERS["b"]))

    told = followed(opened, data, tree, happens, 4)
    assert [[each.entry.tag for each in outcomes] for outcomes in told[:1]] == [["1"]]
    assert capsys.readouterr().err.count("this pass failed") == 1
    assert [[(each.entry.tag, each.status) for each in outcomes] for outcomes in told] == [
        [("1", "done")], [("2", "done")],
    ]  # fmt: skip


def test_a_source_that_was_never_there(tmp_path: Path, data: Path, opened: Registry) -> None:
    """Is no hiccup."""
    with pytest.raises(Exception, match="nowhere"):
        followed(opened, data, Tree(tmp_path / "nowhere"), lambda _: None, 1)


def test_what_failed_is_tried_again_in_time(tmp_path: Path, data: Path, opened: Registry) -> None:
    """Not in every pass, but somebody may mend it."""
    tree = Tree(tmp_path / "old")
    layer = tree.root / "images" / tree.image("a", LAYERS["a"]) / "layer"
    layer.write_bytes(LAYERS["b"])
    tree.tag("team/app", "1", layer.parent.name)
    told = followed(opened, data, tree, lambda n: n == 2 and layer.write_bytes(LAYERS["a"]), 8)
    assert [[each.status for each in outcomes] for outcomes in told] == [["failed"], ["done"]]


def test_the_child_has_the_servers_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else lies in the folder or the environment; empty ones are handed over too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dualreg.toml").write_text('database = "sqlite:////elsewhere"\nworkers = "nonsense"\n')
    monkeypatch.setenv("DUALREG_STORE", "file:///elsewhere")
    monkeypatch.setenv("DUALREG_CONFIG", "/nowhere")
    settings = Settings(data=Path("here"), bridge="off", sparse_indexes=True)
    seen = Settings.from_env(follower_environment(settings))
    assert (seen.store_url, seen.database_url) == (settings.store_url, settings.database_url)
    assert (seen.bridge, seen.sparse_indexes, seen.audit_target) == ("off", True, settings.audit_target)


def _below(pid: int) -> list[int]:
    found = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [each for each in found if b"--follow" in Path(f"/proc/{each}/cmdline").read_bytes()]


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z" not in stat.read_text()


@pytest.mark.slow
def test_a_child_that_is_killed_is_begun_again(tmp_path: Path, data: Path) -> None:
    """As for lack of memory; with the server both end, without a word about going on."""
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "1", tree.image("a", LAYERS["a"]))
    with dualreg_process(data, legacy_source=f"v1-tree:{tree.root}") as (_, process, log):
        assert until(lambda: _below(process.pid) and _below(_below(process.pid)[0]))
        (watcher,) = _below(process.pid)
        (first,) = _below(watcher)
        os.kill(first, signal.SIGKILL)
        assert until(lambda: _below(watcher) not in ([], [first]))
        (second,) = _below(watcher)
        assert until(lambda: "1 done" in log.read_text())
    assert until(lambda: not _alive(watcher) and not _alive(second))
    text = log.read_text()
    assert "begun again" in text
    assert "Run again" not in text
    assert "MiB" not in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_stopping_does_not_wait_for_long(tmp_path: Path, data: Path) -> None:
    """As for a big layer; what is killed is done again later."""
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "1", tree.image("a", LAYERS["a"]))
    follower = Follower(Settings(data=data, legacy_source=f"v1-tree:{tree.root}"))
    follower.start()
    process = follower._process
    assert process
    assert until(lambda: _below(process.pid))
    (busy,) = _below(process.pid)
    os.kill(busy, signal.SIGSTOP)
    began = time.monotonic()
    follower.stop()
    assert time.monotonic() - began < 15
    assert until(lambda: not _alive(busy) and not _alive(process.pid))


def test_following_in_json(tmp_path: Path, data: Path) -> None:
    """A line for each pass that did something, to be read as it comes."""
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "1", tree.image("a", LAYERS["a"]))
    line = [DUALREG, "migrate", "run", f"v1-tree:{tree.root}", "--follow", "1s", "--json", "--data", data]
    with subprocess.Popen([*map(str, line)], env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        told = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert told["counts"] == {"done": 1}
    assert told["tags"][0]["tag"] == "team/app:1"
