"""Migration commands: how they start, end, and fail."""

import errno
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from dualreg.assembly import prepare
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage.bulk import BulkFile
from dualreg.storage.filesystem import FilesystemStore
from tests.directories import ON_POSTGRESQL
from tests.migrate.commands import command, content, snapshot, source
from tests.migrate.trees import LAYERS, Expected, Tree, image_id


def test_two_runs_at_once(expected: Expected, data: Path) -> None:
    """The second one fails: another migration is running."""
    from dualreg.migrate.journal import exclusive  # noqa: PLC0415 -- the lock itself

    with exclusive(data / "migrations"):
        assert "another migration" in command(data, f"run {source(expected)}", code=2).output


@pytest.mark.slow
def test_dry_runs(expected: Expected, data: Path) -> None:
    """They print what would be done, considering what exists already, and create nothing."""
    line = f"run {source(expected)} --dry-run"
    output = command(data, line).output
    assert "team/app:1: import as team/app:1" in output
    assert "library/short:latest: import as short:latest" in output
    assert f"{len(expected.good) + 3} tags would be imported, 0 already exist" in output
    result = json.loads(command(data, f"{line} --json").stdout)
    assert result["counts"]["import"] == len(expected.good) + 3
    assert ON_POSTGRESQL or not data.exists()
    command(data, f"run {source(expected)}", code=1)
    before = snapshot(data / "migrations")
    assert f"3 tags would be imported, {len(expected.good)} already exist" in command(data, line).output
    expected.tree.tag("team/app", "1", image_id("other"))
    result = {tag["tag"]: tag for tag in json.loads(command(data, f"{line} --json").stdout)["tags"]}
    assert result["team/app:1"]["status"] == "skipped"
    assert result["team/app:1"]["reason"].startswith("tag already exists and points to sha256:")
    line = f"{line} --include team/app:1 --existing"
    assert "1 tag would be imported" in command(data, f"{line} overwrite").output
    assert "failed: tag already exists" in command(data, f"{line} fail").output
    assert snapshot(data / "migrations") == before


def test_a_full_disk_ends_a_run(expected: Expected, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends with one line; when space is free again, the next run resumes."""

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FilesystemStore, "append", full)
        patch.setattr(BulkFile, "write", full)
        assert "No space left" in command(data, f"run {source(expected)} --link copy", code=2).output
    result = json.loads(command(data, f"run {source(expected)} --json", code=1).stdout)
    assert result["counts"]["done"] == len(expected.good)


def test_the_configuration_of_the_old_registry(
    expected: Expected, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the tree, by flavor, with values from the environment."""
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
    monkeypatch.setenv("OLD_PATH", f'"{root}"')  # which is YAML
    command(data, line, code=1)
    monkeypatch.setenv("SETTINGS_FLAVOR", "fixed")
    monkeypatch.setenv("OLD_PATH", "/nowhere")
    command(data, line, code=1)
    assert "s3" in command(data, f"{line} --flavor prod", code=2).output
    assert (
        "no flavor none; it has common, dev, fixed, prod"
        in command(data, f"{line} --flavor none", code=2).output
    )


@pytest.mark.parametrize("line", ["inspect", "plan", "run", "run --dry-run", "verify"])
def test_commands_that_cannot_start(
    expected: Expected, data: Path, tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They print the reason in one line, and exit with 2."""
    monkeypatch.chdir(tmp_path)
    if line == "verify":
        prepare(Settings(data=data))
    bad, old = tmp_path / "bad", tmp_path / "config.yml"
    bad.write_bytes(b"\xff\xfe one two three")
    old.write_text("1:\n  storage: local\ndev: x\nthere:\n  storage_path: not/here\n")
    cases = [
        ("v1-tree:", 'missing path in "v1-tree:"; expected v1-tree:PATH'),
        ("docker-archive", 'missing path in "docker-archive"'),
        (str(expected.tree.root), f"did you mean v1-tree:{expected.tree.root}"),
        (f"v1-tree:{old}", "no flavor dev; it has 1, there"),
        (f"v1-tree:{old} --flavor there", "relative to the old registry's directory"),
        (f"{source(expected)} --password-file {bad}", "codec can't decode"),
    ]
    if line != "inspect":
        cases += [
            (f"{source(expected)} --{option} {bad}", "codec can't decode") for option in ("map", "list")
        ]
    if line not in ("inspect", "plan"):
        cases += [
            (f"{source(expected)} --plan {bad}", "codec can't decode"),
            (f"{source(expected)} --config /nowhere", "no such file"),
        ]
    for arguments, text in cases:
        verb, *options = line.split()
        result = command(data, f"{verb} {arguments}", *options, code=2)
        assert text in result.output
        assert result.stderr.splitlines()[-1].startswith("Error: ")
        assert not data.exists() or verb == "verify"


@pytest.mark.sqlite
@pytest.mark.parametrize("line", ["run", "run --dry-run", "verify", "report", "rollback x"])
def test_data_that_cannot_be_used(expected: Expected, tmp_path: Path, line: str) -> None:
    """A file instead of a folder, a catalog that is not a database."""
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "catalog.sqlite3").write_text("nonsense " * 200)
    verb, *options = line.split()
    of = source(expected) if verb in ("run", "verify") else ""
    for folder in ("file", "broken"):
        result = command(tmp_path / folder, f"{verb} {of}", *options, code=2)
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1 + (folder == "broken" and verb not in ("report", "rollback"))


@pytest.mark.sqlite
def test_a_catalog_without_space(expected: Expected, data: Path, opened: Registry) -> None:
    """The run fails with one line; when space is free again, the next run resumes."""
    with opened.state.catalog.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def limit(connection: Any, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")

    event.listen(Engine, "connect", limit)
    try:
        result = command(data, f"run {source(expected)}", code=2)
    finally:
        event.remove(Engine, "connect", limit)
    assert "catalog error: database or disk is full" in result.stderr
    assert command(data, f"run {source(expected)} --include team/*:1 --include team/*:2").exit_code == 0


def test_a_plan_without_space(expected: Expected, data: Path) -> None:
    """The command fails with one line."""
    assert "No space left" in command(data, f"plan {source(expected)} -o /dev/full", code=2).output


def test_verifying_nothing(expected: Expected, data: Path, tmp_path: Path) -> None:
    """It fails, as it does if a tag cannot be imported, unless a plan accepts that."""
    prepare(Settings(data=data))
    line = f"{source(expected)} --include"
    assert "Nothing was compared" in command(data, f"verify {line} typo", code=1).output
    command(data, f"run {line} team/app", code=1)
    assert "1 more tag cannot be imported" in command(data, f"verify {line} team/app", code=1).output
    (result,) = json.loads(command(data, f"verify {line} team/app --json", code=1).stdout)["skipped"].items()
    assert result == ("team/app:a+b", result[1])
    assert result[1].startswith("bad-tag")
    plan = tmp_path / "plan"
    command(data, f"plan {line} team/app -o {plan}", code=1)
    assert "3 of 3" in command(data, f"verify {source(expected)} --plan {plan}").output


@pytest.mark.slow
def test_proposed_commands(expected: Expected, data: Path, tmp_path: Path) -> None:
    """Those for the next step and for undoing the run can be typed as printed, with the given options."""
    old = tmp_path / "old config.yml"
    old.write_text(f"fixed:\n  storage_path: {expected.tree.root}\n")
    at, name = f"v1-tree:{old}", shlex.quote(f"v1-tree:{old}")
    result = command(data, "inspect --flavor fixed", at, code=1)
    hint = f"Next:  dualreg migrate run {name} --dry-run --flavor fixed --data {data}"
    assert result.stdout.splitlines()[-1] == hint
    assert command(data, *shlex.split(hint)[3:]).exit_code == 0
    for include in ("team/app:1", "team/app:2"):
        result = command(data, f"run --flavor fixed --latest 9 --include {include} --jobs 1", at)
    verify, undo, everything = result.stdout.splitlines()[-3:]
    assert verify.endswith(f" verify {name} --flavor fixed --latest 9 --include team/app:2 --data {data}")
    assert "1 of 1" in command(data, *shlex.split(verify)[3:]).stdout
    assert undo.startswith("To undo:  dualreg migrate rollback 2")
    assert "2 tags" in command(data, *shlex.split(everything)[7:]).stdout
    assert content(data) == {}


def test_shared_bytes(data: Path, tmp_path: Path) -> None:
    """They are those of the layers of images that several repositories use, each once."""
    tree = Tree(tmp_path / "old")
    base = tree.image("a", LAYERS["a"])
    for name in ("team/x", "team/y"):
        tree.tag(name, "1", base)
        tree.tag(name, "2", tree.image("b", LAYERS["b"], parent=base))
    tree.tag("team/Bad", "1", tree.image("c", LAYERS["c"]))
    result = json.loads(command(data, f"inspect v1-tree:{tree.root} --json", code=1).stdout)
    assert result["shared_bytes"] == len(LAYERS["a"]) + len(LAYERS["b"])
