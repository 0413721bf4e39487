"""Tags that cannot be read are named, skipped and counted."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dualreg.migrate.names import Names
from tests import builders
from tests.migrate.commands import command
from tests.migrate.stock_trees import LAYERS as STOCK_LAYERS
from tests.migrate.stock_trees import StockTree
from tests.migrate.trees import LAYERS, Tree, image_id

#: What disks, crashes and people leave of a file, by name.
DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b"") and None,
    "zeros": lambda path: path.write_bytes(bytes(64)) and None,
    "cut": lambda path: os.truncate(path, 30),
    "dead link": lambda path: (path.unlink(), path.symlink_to("gone"))[0],
    "circular link": lambda path: (path.unlink(), path.symlink_to(path.name))[0],
    "pipe": lambda path: (path.unlink(), os.mkfifo(path))[0],
    "device": lambda path: (path.unlink(), path.symlink_to("/dev/zero"))[0],
    "undecodable": lambda path: path.write_bytes(b"\xff" * 64) and None,
}


def v1_tree(root: Path) -> tuple[str, Callable[[str], Path], Path]:
    """Write a tree of V1 images; return its location, where its tags are, and its folder of repositories."""
    tree = Tree(root)
    image = tree.image("app", LAYERS["a"])
    for number in range(len(DAMAGES) + 1):
        tree.tag("team/app", str(number), image)
    tree.tag("team/other", "1", image)
    repositories = root / "repositories"
    return f"v1-tree:{root}", lambda tag: repositories / "team/app" / f"tag_{tag}", repositories


def stock_tree(root: Path) -> tuple[str, Callable[[str], Path], Path]:
    """As ``v1_tree``, of manifests."""
    tree, image = StockTree(root), builders.image(STOCK_LAYERS["a"])
    tree.image("team/app", image, *map(str, range(len(DAMAGES) + 1)))
    tree.image("team/other", image, "1")
    repositories = tree.v2 / "repositories"
    tags = repositories / "team/app/_manifests/tags"
    return f"registry-tree:{root}", lambda tag: tags / tag / "current/link", repositories


@pytest.mark.parametrize("make", [v1_tree, stock_tree])
def test_every_tag_is_imported_or_named(
    make: Callable[[Path], tuple[str, Callable[[str], Path], Path]], tmp_path: Path, data: Path
) -> None:
    """Each damaged tag is skipped with its reason, and counts in the exit status of every command."""
    source, at, repositories = make(tmp_path / "old")
    for number, damage in enumerate(DAMAGES.values(), 1):
        damage(at(str(number)))
    (repositories / "team/dead").symlink_to("gone")
    (repositories / "elsewhere").symlink_to("gone")
    lost = {f"team/app:{number}" for number in range(1, len(DAMAGES) + 1)} | {"team/dead", "elsewhere"}
    plan = [json.loads(line) for line in command(data, f"plan {source}", code=1).stdout.splitlines()]
    assert {each["repository"] for each in plan if each["action"] == "import"} == {"team/app", "team/other"}
    assert sum(each["action"] == "skip" for each in plan) == len(lost)
    found = json.loads(command(data, f"inspect {source} --json", code=1).stdout)["findings"]
    assert lost <= {each["where"] for each in found}
    told = json.loads(command(data, f"run {source} --json", code=1).stdout)["tags"]
    assert {each["tag"] for each in told if each["status"] == "skipped" and each["reason"]} == lost
    assert {each["tag"] for each in told if each["status"] == "done"} == {"team/app:0", "team/other:1"}
    skipped = json.loads(command(data, f"verify {source} --json", code=1).stdout)["skipped"]
    assert skipped.keys() == lost
    command(data, "report", code=1)


@pytest.mark.parametrize("make", [v1_tree, stock_tree])
def test_only_what_is_selected_counts(
    make: Callable[[Path], tuple[str, Callable[[str], Path], Path]], tmp_path: Path, data: Path
) -> None:
    """A lost tag that was not asked for does no harm; a folder does if it may hide what was asked for."""
    source, at, repositories = make(tmp_path / "old")
    DAMAGES["empty"](at("1"))
    shutil.rmtree(repositories / "team/other")
    (repositories / "team/other").symlink_to("gone")
    command(data, f"run {source} --include team/app:2")
    command(data, f"run {source} --exclude team/other --exclude team/app:1")
    command(data, f"run {source} --include team/app:2 --include team/other:1", code=1)
    command(data, f"run {source} --include team/app:2 --include team/app:1", code=1)
    assert "1 skipped" in command(data, f"run {source} --include team/app:1 --latest 1", code=3).output


def test_files_beside_tags(tmp_path: Path, data: Path) -> None:
    """The side file of the tag ``_x`` is not a tag, damaged or not; a tag with a similar name is one."""
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "_x", tree.image("app", LAYERS["a"]), 1)
    command(data, f"run v1-tree:{tree.root}")
    folder = tree.root / "repositories/team/app"
    (folder / "tag_x_json").write_bytes(bytes(8))
    command(data, f"run v1-tree:{tree.root}")
    (folder / "tag_y_json").write_bytes(bytes(8))
    assert "team/app:y_json: skipped" in command(data, f"run v1-tree:{tree.root}", code=1).output
    (folder / "tag_y_json").write_text(image_id("app"))
    assert "1 done" in command(data, f"run v1-tree:{tree.root}").output


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ((), (), True),
        (("team/app:1",), (), True),
        (("team/*",), (), True),
        (("*:1",), (), True),
        (("team",), (), True),
        (("teams/app",), (), False),
        (("other/*:1",), (), False),
        ((), ("team/*",), True),
        ((), ("team*",), False),
        ((), ("team/app",), True),
        ((), ("*:1",), True),
    ],
)
def test_what_a_folder_may_hide(
    include: tuple[str, ...], exclude: tuple[str, ...], *, expected: bool
) -> None:
    """Repositories of its name, and below it."""
    assert Names(include, exclude).may_select_within("team") is expected


@pytest.mark.parametrize("make", [v1_tree, stock_tree])
def test_names_that_a_terminal_would_obey(
    make: Callable[[Path], tuple[str, Callable[[str], Path], Path]], tmp_path: Path, data: Path
) -> None:
    """Names are printed with escapes; neither these nor undecodable ones keep other tags from an import."""
    source, at, _ = make(tmp_path / "old")
    tag = at("1") if at("1").name.startswith("tag_") else at("1").parents[1]
    for name in (b"\x1b]0;title\x07", b"\x1b[2J", b"a\n1 done", "\u202ex".encode(), b"\xff\xfe"):
        copy = os.fsencode(tag.parent) + b"/" + (b"tag_" if tag.name.startswith("tag_") else b"") + name
        (shutil.copytree if tag.is_dir() else shutil.copy)(os.fsencode(tag), copy)
    for line in ("inspect", "plan", "run --dry-run", "run", "verify", "report", "report --csv"):
        words = f"{line} {source}" if not line.startswith("report") else line
        output = command(data, words, code=None).output
        assert "app:0" in output or line in ("inspect", "verify", "report --csv")
        assert not {*output} & {*"\x1b\x07\u202e"}
        assert not any(each.startswith("1 done") for each in output.splitlines())
    assert f"{len(DAMAGES) + 2} done" in command(tmp_path / "again", f"run {source}", code=1).output


def test_lost_attachments_count_with_their_image(tmp_path: Path, data: Path) -> None:
    """A signature that cannot be read counts if its image is selected, and only then."""
    tree, image = StockTree(tmp_path / "old"), builders.image(STOCK_LAYERS["a"])
    digest = tree.image("team/app", image, "1")
    tree.image("team/app", builders.image(STOCK_LAYERS["b"]), "2")
    signature = f"sha256-{digest.hex}.sig"
    tree.image("team/app", builders.image(STOCK_LAYERS["c"]), signature)
    DAMAGES["empty"](tree.v2 / f"repositories/team/app/_manifests/tags/{signature}/current/link")
    source = f"registry-tree:{tree.root}"
    assert f"team/app:{signature}: skipped" in command(data, f"run {source} --include *:1", code=1).output
    command(data, f"run {source} --include *:2")
    command(data, f"run {source} --include *:1 --exclude *:*.sig")


@pytest.mark.parametrize("folder", ["_manifests", "_manifests/tags", "_manifests/revisions"])
def test_folders_of_a_registry_tree_that_are_gone(tmp_path: Path, data: Path, folder: str) -> None:
    """A dead link was a folder with tags or manifests; its repository is skipped, and others are not."""
    tree, image = StockTree(tmp_path / "old"), builders.image(STOCK_LAYERS["a"])
    for name in ("team/app", "team/other"):
        tree.image(name, image, "1")
    path = tree.v2 / "repositories/team/app" / folder
    shutil.rmtree(path)
    path.symlink_to("gone")
    output = command(data, f"run registry-tree:{tree.root}", code=1).output
    assert "team/app: skipped: unreadable" in output
    assert "1 done" in output


@pytest.mark.parametrize("damage", ["empty", "zeros", "dead link", "pipe"])
def test_untagged_manifests_with_damaged_links(tmp_path: Path, data: Path, damage: str) -> None:
    """The digest of an untagged manifest is read from the name of its folder."""
    tree, image = StockTree(tmp_path / "old"), builders.image(STOCK_LAYERS["a"])
    DAMAGES[damage](tree.revision("team/app", tree.image("team/app", image)) / "link")
    line = f"run registry-tree:{tree.root} --untagged"
    assert ": import as team/app\n" in command(data, f"{line} --dry-run").output
    assert "1 done" in command(data, line).output
    assert " -> team/app done\n" in command(data, "report").output
