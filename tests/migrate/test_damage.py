"""One file of this registry is lost or cut: each command judges each tag, and none ends with an error."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dualreg.assembly import open_registry
from dualreg.image.digest import Digest
from dualreg.settings import Settings
from tests.apps import client_of
from tests.migrate.commands import command, export
from tests.migrate.stock_trees import LAYERS, StockTree, small


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source, and a registry that has all of it, with the V1 views of its manifests."""
    folder = tmp_path_factory.mktemp("stocked")
    tree = small(folder / "stock")
    tree.schema1("old/one", "1", LAYERS["f"], LAYERS["g"])
    tree.schema1("old/one", "2", LAYERS["g"])
    command(folder / "data", f"run registry-tree:{tree.root}")
    registry = open_registry(Settings(data=folder / "data"))
    for name in ("team/app", "old/one"):
        assert client_of(registry).get(f"/v1/repositories/{name}/tags").json
    registry.close()
    return folder


def _cut(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 3)


def _documents(data: Path) -> list[Path]:
    """Return every blob of this registry but the layers, and one of those."""
    layers = {StockTree(data).data(Digest.of(layer)) for layer in LAYERS.values()}
    first = StockTree(data).data(Digest.of(LAYERS["a"]))
    blobs = sorted((data / "docker/registry/v2/blobs").rglob("data"))
    return [path for path in blobs if path == first or path not in layers]


@pytest.mark.parametrize("damage", [Path.unlink, _cut], ids=["lost", "cut"])
def test_damage_is_judged_tag_by_tag(stocked: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Of manifests, signed or not, configs, V1 JSONs and layers; a rollback needs none of them."""
    source = f"registry-tree:{stocked / 'stock'}"
    count = len(_documents(stocked / "data"))
    assert count > 9
    for number in range(count):
        data = tmp_path / str(number)
        shutil.copytree(stocked / "data", data)
        damage(_documents(data)[number])
        verdict = json.loads(command(data, f"verify {source} --json", code=None).stdout)
        assert verdict["verified"] + len(verdict["wrong"]) == 5
        for target in ("oci-layout", "docker-archive"):
            told = json.loads(export(data, f"{target}:{tmp_path / target}{number} --json", code=None).stdout)
            assert len(told["tags"]) == 4
        (run,) = (path.stem for path in (data / "migrations").glob("*.jsonl"))
        removed = json.loads(command(data, f"rollback {run} --dry-run --json").stdout)
        assert (removed["tags"], removed["kept"]) == (4, [])
        assert json.loads(command(data, f"rollback {run} --json").stdout)["tags"] == 4
        shutil.rmtree(data)
