"""The journal contains whole lines only, whatever happens while they are written."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dualreg.migrate.journal import EarlierRuns, Journal, append_event, damaged_lines, read, runs

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FACTS = {"size": 1, "mtime": 2, "json": "j", "layer": "l", "diff_id": "d", "checksum": "c", "verified": True}


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond *size*, as on a disk that fills up within a line."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("begun", [False, True])
def test_a_line_that_finds_no_room(tmp_path: Path, begun: bool) -> None:  # noqa: FBT001 -- a case
    """A line that cannot be written leaves nothing behind; the first line is always the run's."""
    own = Journal(tmp_path, NOW, "v1-tree:/old")
    if begun:
        own.write("blob", number=1)
    held = own.path.stat().st_size if begun else 0
    with room_for(held + 10), pytest.raises(OSError, match="too large"):
        own.write("blob", number=2)
    assert own.path.stat().st_size == held
    own.write("blob", number=3)
    (run,) = runs(tmp_path)
    told = [*read(tmp_path, run)]
    assert [line["event"] for line in told] == ["run"] + ["blob"] * len(told[1:])
    assert [line["number"] for line in told[1:]] == ([1, 3] if begun else [3])


def test_a_line_that_was_cut_short_stays_alone(tmp_path: Path) -> None:
    """The next one begins a line of its own, and the torn one is known by its number."""
    own = Journal(tmp_path, NOW, "v1-tree:/old")
    own.write("blob", number=1)
    run, size = own.path.stem, own.path.stat().st_size
    with own.path.open("ab") as file:
        file.write(b'{"event": "bl')
    assert damaged_lines(tmp_path, run) == []
    append_event(tmp_path, run, "undone")
    assert [line["event"] for line in read(tmp_path, run)] == ["run", "blob", "undone"]
    assert damaged_lines(tmp_path, run) == [3]
    os.truncate(own.path, size)
    assert damaged_lines(tmp_path, run) == []


@pytest.mark.parametrize("run", ["", "never", "../run", "."])
def test_no_such_run(tmp_path: Path, run: str) -> None:
    """Nothing outside the folder is read."""
    (tmp_path / "run.jsonl").touch()
    (tmp_path / "migrations").mkdir()
    with pytest.raises(ValueError, match="no run"):
        [*read(tmp_path / "migrations", run)]


def test_sources_are_known_by_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they were named; others' journals tell nothing."""
    (tmp_path / "old").mkdir()
    (tmp_path / "link").symlink_to("old")
    monkeypatch.chdir(tmp_path)
    Journal(tmp_path / "m", NOW, "v1-tree:old").write("image", id="a", **FACTS)
    monkeypatch.chdir("/")
    for name in (f"v1-tree:{tmp_path}/old/", f"v1-tree:{tmp_path}/link"):
        assert EarlierRuns(tmp_path / "m", name).refresh().layers.keys() == {"a"}
    assert EarlierRuns(tmp_path / "m", "v1-tree:old").refresh().layers == {}


def test_what_was_found_out_is_read_once(tmp_path: Path) -> None:
    """Of each journal only new lines are read, and only whole ones."""
    earlier = EarlierRuns(tmp_path, "v1-tree:/old")
    own, other = (Journal(tmp_path, NOW.replace(day=day), "v1-tree:/old") for day in (1, 2))
    own.write("image", id="a", **FACTS)
    assert earlier.refresh().layers.keys() == {"a"}
    with own.path.open("r+b") as file:
        file.write(b"x" * own.path.stat().st_size)  # is not read again
    own.write("image", id="b", **FACTS)
    other.write("image", id="c", **FACTS)
    with other.path.open("ab") as file:
        file.write(b'{"event": "image", "id": "d"')
    assert earlier.refresh().layers.keys() == {"a", "b", "c"}
