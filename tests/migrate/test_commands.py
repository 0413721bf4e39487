"""How commands begin, end, and fail."""

import errno
import json
from pathlib import Path

import pytest

from dualreg.storage.filesystem import FilesystemStore
from tests.migrate.commands import command, snapshot, source
from tests.migrate.trees import Expected, image_id


def test_two_runs_at_once(expected: Expected, data: Path) -> None:
    """The second is told to wait."""
    from dualreg.migrate.journal import alone  # noqa: PLC0415 -- the lock itself

    with alone(data / "migrations"):
        assert "another migration" in command(data, f"run {source(expected)}", code=2).output


def test_trials(expected: Expected, data: Path) -> None:
    """Say what would be done, by what is here already, and make nothing."""
    line = f"run {source(expected)} --dry-run"
    output = command(data, line).output
    assert "team/app:1: import as team/app:1" in output
    assert "library/short:latest: import as short:latest" in output
    assert f"{len(expected.good) + 4} tags would be taken in, 0 are here already" in output
    told = json.loads(command(data, f"{line} --json").stdout)
    assert told["counts"]["import"] == len(expected.good) + 4
    assert not data.exists()
    command(data, f"run {source(expected)}", code=1)
    before = snapshot(data / "migrations")
    assert f"4 tags would be taken in, {len(expected.good)} are here already" in command(data, line).output
    expected.tree.tag("team/app", "1", image_id("other"))
    told = {tag["tag"]: tag for tag in json.loads(command(data, f"{line} --json").stdout)["tags"]}
    assert told["team/app:1"]["status"] == "skipped"
    assert told["team/app:1"]["reason"].startswith("the tag is here already")
    line = f"{line} --include team/app:1 --existing"
    assert "1 tags would be taken in" in command(data, f"{line} overwrite").output
    assert "failed: the tag is here already" in command(data, f"{line} fail").output
    assert snapshot(data / "migrations") == before


def test_a_full_disk_ends_it(expected: Expected, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a line; with room again, the next run goes on."""

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FilesystemStore, "append", full)
        assert "No space left" in command(data, f"run {source(expected)} --link copy", code=2).output
    told = json.loads(command(data, f"run {source(expected)} --json", code=1).stdout)
    assert told["counts"]["done"] == len(expected.good)


def test_the_old_registrys_configuration(
    expected: Expected, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names the tree, by flavor, with values out of the environment."""
    root = expected.tree.root
    old = root.parent / "config.yml"
    old.write_text(
        "common: &common\n  loglevel: info\n  storage_path: _env:OLD_PATH:/nowhere\n"
        "dev:\n  <<: *common\n  storage: local\n"
        f"fixed:\n  storage: file\n  storage_path: {root}\n"
        "prod:\n  storage: s3\nempty: 1\n"
    )
    line = f"inspect v1-tree:{old}"
    monkeypatch.setenv("OLD_PATH", str(root))
    command(data, line, code=1)
    monkeypatch.delenv("OLD_PATH")
    assert "/nowhere" in command(data, line, code=2).output
    command(data, f"{line} --flavor fixed", code=1)
    assert "s3" in command(data, f"{line} --flavor prod", code=2).output
    assert "no flavor none: common, dev, fixed, prod" in command(data, f"{line} --flavor none", code=2).output
