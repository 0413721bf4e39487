"""What was answered for survives kills and power cuts, at some system calls of every story.

``make cuts N=10000`` is the long form.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.cuts.calls import Call, UnknownCall, read_calls
from tests.cuts.disk import Disk
from tests.cuts.record import Recording, record
from tests.cuts.run import cuts, run
from tests.cuts.stories import STORIES
from tests.soak import short_or_long


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """A process that checks."""
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        yield executor


@pytest.mark.sqlite
@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_nothing_that_was_answered_for_is_lost(story: str, tmp_path: Path, pool: ProcessPoolExecutor) -> None:
    """Images pull over both APIs, uploads go on, and what was deleted stays so."""
    recording = record(story, tmp_path / "own")
    stride = max(1, recording.places() // short_or_long(2, 100))
    result = run(story, cuts(recording, stride=stride, torn=1), pool)
    assert result.failures == {}
    assert min(result.cuts[kind] for kind in ("kill", "cut", "torn")) >= 1


@pytest.mark.parametrize(
    ("calls", "kept"),
    [
        ([], {}),
        ([("create", "a"), ("write", "a"), ("sync", "a")], {}),
        ([("create", "a"), ("write", "a"), ("sync", "")], {"a": b""}),
        ([("create", "a"), ("write", "a"), ("sync", ""), ("sync", "a")], {"a": b"data"}),
        ([("folder", "f"), ("create", "f/a"), ("sync", "f")], {}),
        ([("folder", "f"), ("create", "f/a"), ("sync", "")], {"f": None}),
        ([("folder", "f"), ("create", "f/a"), ("sync", "f"), ("sync", "")], {"f": None, "f/a": b""}),
        ([("folder", "f"), ("sync", ""), ("create", "a"), ("rename", "a", "f/b")], {"f": None}),
        ([("folder", "f"), ("sync", ""), ("create", "a"), ("rename", "a", "f/b"), ("sync", "f")],
         {"f": None, "f/b": b""}),
        ([("create", "a"), ("sync", ""), ("remove", "a")], {"a": b""}),
        ([("create", "a"), ("sync", ""), ("remove", "a"), ("sync", "")], {}),
        ([("folder", "f"), ("create", "f/a"), ("write", "f/a"), ("settle", "f")],
         {"f": None, "f/a": b"data"}),
        ([("create", "a"), ("settle", ""), ("remove", "a"), ("settle", "")], {}),
    ],
)  # fmt: skip
def test_the_disk_keeps_what_was_synced(
    calls: list[tuple[str, ...]], kept: dict[str, bytes | None], tmp_path: Path
) -> None:
    """A power cut leaves that alone, and a kill leaves everything."""
    disk = Disk(tmp_path)
    for kind, path, *target in calls:
        data, offset = (b"data", 0) if kind == "write" else (b"", None)
        paths = [str(tmp_path / each) for each in (path, *target)]
        disk.play(Call(kind, *paths, offset=offset, data=data))
    assert disk.cut() == kept
    removed = {path for kind, path, *_ in calls if kind == "remove"}
    assert kept.keys() - removed <= disk.killed().keys()


def test_no_change_is_left_out() -> None:
    """A recording with a call that cannot be replayed is refused, if the call is below the folder."""
    path = "".join(f"\\x{byte:02x}" for byte in b"/disk/file")
    line = f"1 fallocate(3<{path}>, 0, 0, 4096) = 0\n"
    with pytest.raises(UnknownCall, match="fallocate"):
        list(read_calls([line], "/disk", "/notes"))
    assert list(read_calls([line], "/elsewhere", "/notes")) == []


@pytest.mark.slow
def test_every_answer_is_cut(tmp_path: Path) -> None:
    """Before anything else happens, which could make durable what was answered for too early."""
    key, path = ("tag", "team/app", "1"), str(tmp_path / "a")
    notes = (["begun", []], ["asked", [[*key, "x"]]], ["answered", [[*key, "x"]]])
    begun, asked, answered = (Call("note", "", data=json.dumps(note).encode()) for note in notes)
    calls = [begun, asked, Call("create", path), answered, Call("sync", str(tmp_path))]
    recording = Recording(Disk(tmp_path), calls)
    made = cuts(recording, stride=1, torn=0)
    after = [(cut.image, cut.allowed.get(key)) for cut in made if cut.name.startswith("cut")]
    assert after[-2:] == [({}, {"x"}), ({"a": b""}, {"x"})]
    assert len(after) == recording.places()
