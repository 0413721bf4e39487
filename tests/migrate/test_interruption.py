"""A survey that takes long ends at once when it is asked to, says so, and is made again by a later run."""

import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dualreg.migrate.parallel import in_parallel, pooled
from tests.migrate.commands import command, export
from tests.migrate.fronts import Front, front
from tests.migrate.trees import LAYERS, Tree
from tests.programs import DUALREG, dualreg_server, start, until

#: Seconds that a request takes, far more than an end may.
_DELAY = 20


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry of two tags; its host."""
    folder = tmp_path_factory.mktemp("there")
    tree = Tree(folder / "old")
    for tag in "ab":
        tree.tag("team/app", tag, tree.image(tag, LAYERS[tag]))
    command(folder / "data", f"run v1-tree:{tree.root}")
    with dualreg_server(folder / "data") as host:
        yield host


def _ended(line: str, before: Front, log: Path, number: int) -> int:
    """Run a command until it waits for an answer, send it a signal, and return its exit status."""
    before.delay = _DELAY
    process = start([DUALREG, *line.split()], log)
    assert until(lambda: before.busiest)
    process.send_signal(number)
    try:
        return process.wait(_DELAY / 2)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_surveys_are_interrupted(
    there: str, tmp_path: Path, data: Path, generation: str, number: signal.Signals
) -> None:
    """By either signal: exit status 2, one line, and nothing in the registry; then all is imported."""
    log = tmp_path / "log"
    for line in ("inspect --deep --jobs 8", "plan --latest 1", "run --jobs 1", "run --dry-run"):
        with front(there) as before:
            full = f"migrate {line} {generation}+{before.url}/team/app --data {data}"
            log.write_text("")
            assert _ended(full, before, log, number) == 2
            told = [each for each in log.read_text().splitlines() if not each.startswith("Registry: ")]
            assert told == [f"Error: stopped by {number.name}; run the command again"]
    assert not data.exists()
    assert "2 done" in command(data, f"run {generation}+http://{there}/team/app").output


@pytest.mark.slow
def test_a_survey_of_a_follower_is_interrupted(there: str, tmp_path: Path, data: Path) -> None:
    """As between two passes, its end is no failure."""
    with front(there) as before:
        line = f"migrate run v2+{before.url}/team/app --follow 1s --data {data}"
        assert _ended(line, before, tmp_path / "log", signal.SIGTERM) == 0


@pytest.mark.slow
def test_comparisons_are_interrupted(there: str, tmp_path: Path, data: Path) -> None:
    """They change nothing either."""
    command(data, f"run v2+http://{there}/team/app")
    with front(there) as before:
        line = f"migrate verify v2+{before.url}/team/app --data {data}"
        assert _ended(line, before, tmp_path / "log", signal.SIGTERM) == 2


def test_listing_what_to_export_is_interrupted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the target is touched."""
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "1", tree.image("a", LAYERS["a"]))
    command(data, f"run v1-tree:{tree.root}")

    def entries(*_: object) -> Iterator[object]:
        signal.raise_signal(signal.SIGTERM)
        yield from ()

    monkeypatch.setattr("dualreg.cli.export.entries_to_export", entries)
    assert "stopped by SIGTERM" in export(data, f"oci-layout:{tmp_path / 'layout'}", code=2).output
    assert not (tmp_path / "layout").exists()


def test_work_in_parallel() -> None:
    """Results keep the order of the items, and so do errors; no more than so many work at a time."""
    busy, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        if number == 30:
            raise ValueError("thirty")
        with lock:
            busy -= 1
        return number * 2

    assert [*in_parallel(work, range(30), 4)] == [number * 2 for number in range(30)]
    assert [*in_parallel(work, [], 4)] == []
    assert most <= 4
    results = in_parallel(work, range(40), 1)
    assert [next(results) for _ in range(30)] == [number * 2 for number in range(30)]
    with pytest.raises(ValueError, match="thirty"):
        next(results)


def test_work_of_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results keep the order of the items; a pool is given few at a time, and begins none after an error."""
    monkeypatch.setattr("dualreg.migrate.parallel._GIVEN", 10)
    begun, waiting = list[int](), iter(range(100))

    def work(number: int) -> int:
        begun.append(number)
        if number == 70:
            raise ValueError("seventy")
        return number * 2

    with ThreadPoolExecutor(1) as pool:
        results = pooled(pool, work, waiting)
        assert [next(results) for _ in range(50)] == [number * 2 for number in range(50)]
        assert next(waiting) == 50 + 10 - 1
        with pytest.raises(ValueError, match="seventy"):
            deque(results, maxlen=0)
    assert len(begun) <= 70 + 10
    with ThreadPoolExecutor(2) as pool:
        assert [*pooled(pool, work, range(3))] == [0, 2, 4]
        assert [*pooled(pool, work, [])] == []


@pytest.mark.slow
def test_no_work_is_begun_for_nobody() -> None:
    """When the caller stops to read, what is in progress is not waited for, and nothing more is begun."""
    begun, may_end = [], threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number:
            may_end.wait(20)
        return number

    results = in_parallel(work, range(100), 2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]  # a generator
    may_end.set()
    assert len(begun) <= 3
