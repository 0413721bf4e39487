"""A run ends when the registry takes no more content, wherever it is, and a later one goes on from there."""

import json
import lzma
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from dualreg.catalog.clock import utc_now
from dualreg.registry.marks import MARK, FileMark
from dualreg.registry.writes import Writes
from tests import builders
from tests.migrate.commands import command, content
from tests.migrate.stock_trees import StockTree
from tests.migrate.test_files import saved
from tests.migrate.trees import LAYERS, Tree
from tests.programs import DUALREG, environment, running, until


def _v1(folder: Path) -> str:
    tree = Tree(folder)
    for letter in "ab":
        tree.tag(
            "team/app",
            letter,
            tree.image(letter, LAYERS[letter], parent=tree.image(f"{letter}0", LAYERS["c"])),
        )
    return f"v1-tree:{folder}"


def _stock(folder: Path) -> str:
    tree = StockTree(folder)
    for letter in "ab":
        tree.image("team/app", builders.image(LAYERS[letter], LAYERS["c"]), letter)
    return f"registry-tree:{folder}"


def _saved(folder: Path) -> str:
    folder.mkdir()
    images = ((builders.image(LAYERS[letter], LAYERS["c"]), [f"team/app:{letter}"]) for letter in "ab")
    return f"docker-archive:{saved(folder / 'app.tar', *images)}"


def _full(patch: pytest.MonkeyPatch, number: int) -> None:
    """Have the reserve reached when the run asks for the *number*-th time."""
    asked = count(1)
    patch.setattr(Writes, "room", lambda _: 1 << 40 if next(asked) < number else -1)


def _read_only(patch: pytest.MonkeyPatch, number: int, method: str = "require") -> None:
    """Have the registry made read-only then."""
    asked, require = count(1), getattr(Writes, method)

    def mark_first(writes: Writes) -> None:
        if next(asked) == number:
            writes.set_mark("moving", utc_now())
        require(writes)

    patch.setattr(Writes, method, mark_first)


@pytest.mark.slow
@pytest.mark.parametrize("make", [_v1, _stock, _saved])
@pytest.mark.parametrize(
    ("refuse", "text"),
    [(_full, "the disk of this registry is nearly full"), (_read_only, "read-only: moving")],
)
def test_a_run_that_is_refused(
    make: Callable[[Path], str],
    refuse: Callable[[pytest.MonkeyPatch, int], None],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wherever it is, it exits with 2 and a line that says why; another run then imports the rest."""
    source = make(tmp_path / "old")
    command(tmp_path / "undisturbed", f"run {source}")
    whole, ended = content(tmp_path / "undisturbed"), 0
    for number in count(2, 2):
        data = tmp_path / str(number)
        with monkeypatch.context() as patch:
            refuse(patch, number)
            done = command(data, f"run {source} --jobs 1 --link copy", code=None)
        if done.exit_code == 0:
            break
        ended += 1
        assert done.exit_code == 2
        assert "Error: stopped: " in done.output
        assert text in done.output
        assert "run the command again to resume" in done.output
        assert content(data).items() < whole.items()
        assert not [*(data / "uploads").glob("*-*")]
        (data / MARK).unlink(missing_ok=True)
        command(data, f"run {source}")
        assert content(data) == whole
    assert ended > 2


@pytest.mark.slow
@pytest.mark.parametrize("make", [_v1, _stock])
def test_a_rollback_that_is_refused(
    make: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends where it is when the registry is made read-only; the same command then removes the rest."""
    source, left = make(tmp_path / "old"), list[int]()
    for number in count(2, 4):
        data = tmp_path / str(number)
        run = json.loads(command(data, f"run {source} --json").stdout)["run"]
        with monkeypatch.context() as patch:
            patch.setattr("dualreg.migrate.rollback._STEP", 1)
            _read_only(patch, number, "require_allowed")
            done = command(data, f"rollback {run}", code=None)
        if done.exit_code == 0:
            break
        assert (done.exit_code, "read-only: moving" in done.output) == (2, True)
        left.append(len(content(data)))
        (data / MARK).unlink()
        command(data, f"rollback {run}")
        assert content(data) == {}
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1]


@pytest.fixture
def follower(tmp_path: Path, data: Path) -> Iterator[Path]:
    """``migrate run --follow`` over a tree of images that are imported one by one; yields its log."""
    tree = Tree(tmp_path / "old")
    for number in range(30):
        layer = lzma.compress(builders.tar({"x": b"%d" % number}))  # which has to be compressed anew
        tree.tag("team/app", f"{number}", tree.image(f"{number}", layer))
    line = [DUALREG, "migrate", "run", f"v1-tree:{tree.root}", "--follow", "1s", "--jobs", "1"]
    with running([*line, "--data", data], tmp_path / "log", environment()):
        yield tmp_path / "log"


@pytest.mark.slow
def test_a_follower_of_a_read_only_registry(follower: Path, data: Path) -> None:
    """It pauses in the middle of a pass, says so, and goes on with a later pass."""
    writes = Writes(mark=FileMark(data))
    assert until(lambda: len([*(data / "docker").rglob("current/link")]) > 5)
    writes.set_mark("moving", utc_now())
    assert until(lambda: "import paused: this registry is read-only: moving" in follower.read_text())
    before = content(data)
    assert until(lambda: "import pass failed: this registry is read-only: moving" in follower.read_text())
    assert content(data) == before
    assert 5 < len([path for path in before if path.endswith("current/link")]) < 30
    assert writes.remove_mark()
    assert until(lambda: len([*(data / "docker").rglob("current/link")]) == 30, 60)
