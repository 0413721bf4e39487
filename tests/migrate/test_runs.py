"""Runs are listed, reported, and rolled back."""

import csv
import gzip
import json
from pathlib import Path

import pytest

from dualreg.catalog.rows import QuotaRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from tests import builders
from tests.apps import client_of
from tests.migrate.commands import command, content, source
from tests.migrate.stock_trees import StockTree
from tests.migrate.trees import LAYERS, Expected, Tree, image_id


@pytest.mark.slow
def test_rollback_removes_what_a_run_added(expected: Expected, data: Path, opened: Registry) -> None:
    """It removes nothing that existed before or was moved since; a second rollback does nothing."""
    client = client_of(opened)
    assert client.put("/v1/repositories/team/own/", json=[]).status_code == 200
    tree = expected.tree
    command(data, f"run {source(expected)} --include team/twin:*")
    before = content(data)
    command(data, f"run {source(expected)}", code=1)
    first, second = sorted(path.stem for path in (data / "migrations").glob("*.jsonl"))
    planned = command(data, f"rollback {second} --dry-run").output
    assert planned.startswith(f"Would remove {len(expected.good) - 1} tags")
    assert content(data) != before
    assert command(data, f"rollback {second}").output.startswith(f"Removed {len(expected.good) - 1} tags")
    assert content(data) == before
    assert command(data, f"rollback {second}").output.startswith("Removed 0 tags and 0 blobs")
    assert opened.bridge.resolve(RepositoryName("team/twin"), Tag("1")) == image_id("top2")
    command(data, f"rollback {first}")
    assert content(data) == {}
    assert "no run" in command(data, "rollback never", code=2).output
    assert opened.repositories.list(last="", limit=9).rows == []
    assert tree.root.exists()


@pytest.mark.slow
def test_rollback_keeps_what_is_used_since(expected: Expected, data: Path, opened: Registry) -> None:
    """A tag that was moved, and a layer that a pushed image builds upon."""
    result = json.loads(command(data, f"run {source(expected)} --json", code=1).stdout)
    client = client_of(opened)
    name = RepositoryName("team/app")
    opened.bridge.tag(name, Tag("1"), image_id("other"))  # type: ignore[arg-type]  # an id's text
    session = client.put("/v1/repositories/team/app/", json=[]).headers["X-Docker-Token"]
    document = json.dumps({"id": "f" * 64, "parent": image_id("top")}).encode()
    headers = {"Authorization": f"Token {session}"}
    assert client.put(f"/v1/images/{'f' * 64}/json", data=document, headers=headers).status_code == 200
    output = command(data, f"rollback {result['run']}").output
    assert "kept: team/app:1 was moved since" in output
    assert opened.v1_images.get(name, image_id("base")).complete  # type: ignore[arg-type]  # an id's text
    assert opened.bridge.resolve(name, Tag("1")) == image_id("other")


@pytest.mark.slow
def test_reports(expected: Expected, data: Path) -> None:
    """Reports are text, JSON or CSV; one format at a time."""
    result = json.loads(command(data, f"run {source(expected)} --json", code=1).stdout)
    text = command(data, "report", code=1).output
    assert f"run {result['run']} of {source(expected)}" in text
    assert f"{len(expected.good)} done" in text
    rows = [*csv.DictReader(command(data, "report --csv", code=1).stdout.splitlines())]
    assert [*rows[0]] == [
        "source",
        "repository",
        "tag",
        "image",
        "digest",
        "status",
        "reason",
        "run",
        "bytes",
    ]
    (row,) = [row for row in rows if row["source"] == "library/short:latest"]
    assert (row["repository"], row["tag"], row["image"]) == ("short", "latest", image_id("short"))
    assert row["digest"].startswith("sha256:")
    assert (row["run"], row["bytes"]) == (result["run"], str(len(expected.tree.layers[image_id("short")])))
    (parsed,) = json.loads(command(data, f"report {result['run']} --json", code=1).stdout)
    assert len(parsed["tags"]) == len(result["tags"])
    for both in ("--json --csv", "--csv --csv-images", f"--list {result['run']}", f"--all {result['run']}"):
        assert "cannot be combined" in command(data, f"report {both}", code=2).output


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("", "", 0),
        ('"stopped": false', '"stopped": true', 1),
        ('{"event": "end", "stopped": false}\n', "", 1),
        ('{"event": "end", "stopped": false}\n', '{"event": "end", "st', 1),
    ],
    ids=["whole", "stopped", "killed", "cut"],
)
def test_reports_of_interrupted_runs(tmp_path: Path, data: Path, old: str, new: str, code: int) -> None:
    """The report of an interrupted run, whose journal lacks tags, has not the exit status 0.

    A later run over the source completes it, and journals of imports on demand have no end.
    """
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "1", tree.image("app", LAYERS["a"]))
    command(data, f"run v1-tree:{tree.root}")
    (path,) = (data / "migrations").glob("*.jsonl")
    text = path.read_text()
    path.write_text(text.replace(old, new))
    assert (", interrupted" in command(data, "report", code=code).output) is bool(code)
    command(data, "report --all --csv", code=code)
    path.write_text(path.read_text().replace('"on_demand": false', '"on_demand": true'))
    assert ", interrupted" not in command(data, "report --list").output
    path.write_text(text.replace(old, new))
    command(data, f"run v1-tree:{tree.root}")
    command(data, "report --all")


@pytest.mark.slow
def test_every_image_is_reported(expected: Expected, data: Path) -> None:
    """Ancestors too, whichever run imported them; not what was rolled back."""
    for part in ("1", "2"):
        command(data, f"run {source(expected)} --include team/app:{part}")
    command(data, f"run {source(expected)} --include team/twin:1")
    first, *_, last = (path.stem for path in sorted((data / "migrations").glob("*.jsonl")))
    command(data, f"rollback {last}")
    rows = [*csv.DictReader(command(data, "report --all --csv-images").stdout.splitlines())]
    assert [*rows[0]] == ["run", "repository", "image", "layer", "diff_id", "bytes", "verified"]
    ids = {image_id(seed) for seed in ("base", "middle", "top", "other")}
    assert {row["image"] for row in rows} == ids
    for row in rows:
        layer = expected.tree.layers[row["image"]]
        assert (row["layer"], row["diff_id"]) == (
            str(Digest.of(layer)),
            str(Digest.of(gzip.decompress(layer))),
        )
        assert (row["repository"], row["bytes"]) == ("team/app", str(len(layer)))
    rows = [*csv.DictReader(command(data, f"report {first} --csv-images").stdout.splitlines())]
    assert {row["image"] for row in rows} == ids - {image_id("other")}


@pytest.mark.slow
def test_runs_are_listed(expected: Expected, data: Path) -> None:
    """Oldest first; without runs nothing is created."""
    assert "no run yet" in command(data, "report", code=2).output
    for line in ("report --list --json", "report --all --json"):
        assert json.loads(command(data, line).stdout) == []
    assert "no run" in command(data, "rollback never", code=2).output
    assert "no run over" in command(data, f"rollback --all {source(expected)}", code=2).output
    assert not data.exists()
    for name in ("team/app:1", "team/twin:1"):
        command(data, f"run {source(expected)} --include {name}")
    runs = [path.stem for path in sorted((data / "migrations").glob("*.jsonl"))]
    command(data, f"rollback {runs[0]}")
    result = json.loads(command(data, "report --list --json").stdout)
    assert [(each["run"], each["undone"], each["counts"]) for each in result] == [
        (runs[0], True, {"done": 1}), (runs[1], False, {"done": 1}),
    ]  # fmt: skip
    heading, first, second = command(data, "report --list").stdout.splitlines()
    assert heading.split() == ["RUN", "STARTED", "SOURCE", "TAGS"]
    assert first.startswith(runs[0])
    assert first.endswith("1 done, rolled back")
    assert source(expected) in second


@pytest.mark.slow
@pytest.mark.parametrize("order", [(0, 1), (1, 0), "all"])
@pytest.mark.parametrize("sort", ["v1", "stock"])
def test_the_order_of_rollbacks(
    tmp_path: Path, data: Path, opened: Registry, order: tuple[int, ...] | str, sort: str
) -> None:
    """What both runs use is removed by the last rollback, in any order; nothing is left."""
    del opened  # makes what is there before
    if sort == "v1":
        tree = Tree(tmp_path / "old")
        base = tree.image("a", LAYERS["a"])
        tops = [base, tree.image("b", LAYERS["b"], parent=base)]
        for number, image in enumerate((*tops, *tops)):
            tree.tag("team/app", str(number), image)
        name = f"v1-tree:{tree.root}"
    else:
        stock = StockTree(tmp_path / "old")
        for number in range(4):
            image = builders.image(LAYERS["a"], *([LAYERS["b"]] * (number % 2)))
            stock.image("team/app", image, str(number))
        name = f"registry-tree:{stock.root}"
    for one, other in ("01", "23"):
        command(data, f"run {name} --include team/app:{one} --include team/app:{other}")
    runs = [path.stem for path in sorted((data / "migrations").glob("*.jsonl"))]
    if order == "all":
        before = content(data)
        result = json.loads(command(data, f"rollback --all {name} --dry-run --json").stdout)
        assert content(data) == before
        done = json.loads(command(data, f"rollback --all {name} --json").stdout)
        assert {**result, "dry_run": False} == done
        assert (done["tags"], done["manifests"], done["runs"]) == (4, 2, runs)
    else:
        for number in order:
            planned = command(data, f"rollback {runs[number]} --dry-run").output
            done_ = command(data, f"rollback {runs[number]}").output
            assert planned.replace("Would remove", "Removed") == done_
            assert done_.startswith("Removed 2 tags")
    assert content(data) == {}


def test_a_store_that_was_there_before_keeps_its_files(tmp_path: Path) -> None:
    """Rollback of an import in place removes rows only, even if the journal claims otherwise."""
    tree = StockTree(tmp_path / "stock")
    tree.image("team/app", builders.image(LAYERS["a"]), "1")
    before = content(tree.root)
    command(tree.root, f"run registry-tree:{tree.root}")
    (path,) = (tree.root / "migrations").glob("*.jsonl")
    path.write_text(path.read_text().replace('"in_place": true', '"in_place": false'))
    assert "1 tag," in command(tree.root, f"rollback {path.stem}").output
    assert before.items() <= content(tree.root).items()
    command(tree.root, f"run registry-tree:{tree.root}")
    (path,) = {*(tree.root / "migrations").glob("*.jsonl")} - {path}
    path.write_text(path.read_text().partition("\n")[2])
    assert "lacks the first line" in command(tree.root, f"rollback {path.stem}", code=2).output
    assert before.items() <= content(tree.root).items()


@pytest.mark.parametrize("swapped", [False, True])
def test_a_store_that_is_moving_keeps_its_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    swapped: bool,  # noqa: FBT001 -- parametrised
) -> None:
    """An import in place, while there are two stores, takes no bytes from the source if it is undone."""
    tree = StockTree(tmp_path / "stock")
    tree.image("team/app", builders.image(LAYERS["a"]), "1")
    before = content(tree.root)
    stores = [(tmp_path / "new").as_uri(), tree.root.as_uri()]
    monkeypatch.setenv("DUALREG_STORE", stores[swapped])
    monkeypatch.setenv("DUALREG_STORE_FALLBACK", stores[not swapped])
    command(tree.root, f"run registry-tree:{tree.root}")
    (path,) = (tree.root / "migrations").glob("*.jsonl")
    assert "1 tag," in command(tree.root, f"rollback {path.stem}").output
    assert before.items() <= content(tree.root).items()


def test_unreadable_lines_of_a_journal(expected: Expected, data: Path) -> None:
    """Rollback reports them, except the last one, which a crash may have cut short."""
    command(data, f"run {source(expected)} --include team/app:1")
    (path,) = (data / "migrations").glob("*.jsonl")
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole[:2], b'{"event": "im\n', *whole[2:], b'{"event"']))
    output = command(data, f"rollback {path.stem} --dry-run").output
    assert f"kept: steps in damaged lines of the journal of {path.stem}: 3\n" in output
    assert output.count("damaged lines") == 1


def test_rollback_warns_of_the_legacy_source(
    expected: Expected, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was removed is imported again on demand."""
    command(data, f"run {source(expected)} --include team/app:1")
    (path,) = (data / "migrations").glob("*.jsonl")
    monkeypatch.setenv("DUALREG_LEGACY_SOURCE", f"{source(expected)}/")
    assert "are imported again on demand" in command(data, f"rollback {path.stem}").stderr


@pytest.mark.slow
@pytest.mark.parametrize("dry_run", ["", "--dry-run"])
def test_immutable_tags(expected: Expected, data: Path, opened: Registry, dry_run: str) -> None:
    """An import skips one that points elsewhere, and a rollback keeps it; both say why, dry runs too."""
    run = f"run {source(expected)} --include team/app:* --existing overwrite --json"
    first = json.loads(command(data, run, code=None).stdout)["run"]
    name = RepositoryName("team/app")
    opened.bridge.tag(name, Tag("1"), image_id("other"))  # type: ignore[arg-type]  # an id's text
    opened.immutability.add("team/*")
    before = opened.tags.describe(name, limit=9)
    reason = "cannot be moved or deleted (rule team/*)"
    again = json.loads(command(data, f"{run} {dry_run}", code=None).stdout)["tags"]
    skipped = {
        each["tag"].rpartition(":")[2]: each["reason"] for each in again if each["status"] == "skipped"
    }
    assert {*skipped} == {"1", "a+b"}  # which is no valid name
    assert f"team/app:1 {reason}" in skipped["1"]
    output = command(data, f"rollback {first} {dry_run}").output
    assert f"kept: team/app:2 {reason}" in output
    assert opened.tags.describe(name, limit=9) == before


def test_an_import_that_does_not_fit(expected: Expected, data: Path, opened: Registry) -> None:
    """Tags fail with the numbers; what was imported counts, and with more room, it goes on."""
    opened.quotas.set(QuotaRow("team/*", 600))
    run = f"run {source(expected)} --include team/app:* --json"
    failed = [
        each
        for each in json.loads(command(data, run, code=None).stdout)["tags"]
        if each["status"] == "failed"
    ]
    assert failed
    assert all("the quota team/* has used" in each["reason"] for each in failed)
    (quota,) = opened.quotas.list()
    assert quota.used is not None
    assert quota.used <= 600
    used = opened.quotas.set(QuotaRow("team/*", 1 << 30))
    assert used == quota.used
    again = json.loads(command(data, run, code=None).stdout)["counts"]
    assert "failed" not in again
    (after,) = opened.quotas.list()
    assert opened.quotas.count("team/*") == after.used
