"""Files and folders of a source that only others may read: each costs only what is in it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import builders
from tests.migrate import stock_trees
from tests.migrate.stock_trees import StockTree
from tests.migrate.trees import LAYERS, Tree, image_id
from tests.programs import require

#: A user and group without privileges.
_NOBODY = 65534


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that every user may read, unlike those of pytest."""
    if os.geteuid() == 0:
        require("setpriv", package="util-linux")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwX", folder], check=True)
    shutil.rmtree(folder)


def close(path: Path) -> None:
    """Let only root, or, if the tests do not run as root, no user, read *path*."""
    path.chmod((0o700 if path.is_dir() else 0o600) if os.geteuid() == 0 else 0)


def unprivileged(folder: Path, line: str, code: int) -> str:
    """Return what a command prints that does not run as root; its data directory is in *folder*."""
    data = folder / "data"
    data.mkdir(exist_ok=True)
    start = []
    if os.geteuid() == 0:
        start = ["setpriv", "--clear-groups", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--inh-caps=-all"]
        os.chown(data, _NOBODY, _NOBODY)
    command_ = [*start, sys.executable, "-m", "dualreg", "migrate", *line.split(), "--data", data]
    done = subprocess.run(command_, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.mark.slow
def test_v1_trees(readable: Path) -> None:
    """Namespaces, repositories, tags, images, JSONs and layers."""
    tree = Tree(readable / "registry")
    root, line = tree.root, f"v1-tree:{readable}"
    for name in ("team/app", "no/tag", "no/folder", "namespace/x", "no/json", "no/layer", "no/image"):
        seed = name.partition("/")[2]
        tree.tag(name, "1", tree.image(seed, LAYERS["b"]))
    (readable / "lost+found").mkdir(mode=0o700)
    for path in (
        root / "repositories/no/tag/tag_1",
        root / "repositories/no/folder",
        root / "repositories/namespace",
        root / "images" / image_id("image"),
        root / "images" / image_id("json") / "json",
        root / "images" / image_id("layer") / "layer",
    ):
        close(path)
    found_ = json.loads(unprivileged(readable, f"inspect {line} --json", 1))
    found = {(each["kind"], each["where"]) for each in found_["findings"] if each["kind"] != "orphan"}
    assert found == {
        ("unreadable", "no/tag:1"),
        ("unreadable", "no/folder"),
        ("unreadable", "namespace"),
        ("unreadable", image_id("image")),
        ("unreadable", image_id("json")),
        ("unreadable", "no/image:1"),
        ("unreadable", "no/json:1"),
    }
    plan = [json.loads(each) for each in unprivileged(readable, f"plan {line}", 1).splitlines()]
    ran = {
        f"{each['repository']}:{each['tag']}": each["action"] for each in plan if each["action"] != "leave"
    }
    lost = dict.fromkeys(("namespace:", "no/folder:", "no/image:1", "no/json:1", "no/tag:1"), "skip")
    assert ran == lost | {"team/app:1": "import", "no/layer:1": "import"}
    outcome = json.loads(unprivileged(readable, f"run {line} --json", 1))["tags"]
    reasons = {
        each["tag"]: each["reason"].partition(":")[0] for each in outcome if each["status"] == "failed"
    }
    assert reasons == {"no/layer:1": "unreadable"}


@pytest.mark.slow
def test_registry_trees(readable: Path) -> None:
    """Repositories and tags, and what a manifest needs; other repositories are imported."""
    tree, image = StockTree(readable / "registry"), builders.image(stock_trees.LAYERS["a"])
    tree.image("team/app", image, "1")
    closed = {
        "": "0",
        "_manifests": "1",
        "_manifests/tags": "2",
        "_manifests/revisions": "3",
        "_manifests/revisions/sha256": "4",
        "_manifests/tags/1": "5:1",
        "_manifests/tags/1/current": "6:1",
        "_manifests/tags/1/current/link": "7:1",
    }
    for path, lost in closed.items():
        name = lost.partition(":")[0]
        tree.image(name, image, "1")
        close(tree.v2 / "repositories" / name / path)
    tags = json.loads(unprivileged(readable, f"run registry-tree:{tree.root} --json", 1))["tags"]
    lost_tags = {each["tag"] for each in tags if each["reason"].startswith("unreadable: ")}
    assert lost_tags == {*closed.values(), "3:1", "4:1"}
    assert [each["tag"] for each in tags if each["status"] == "done"] == ["team/app:1"]
