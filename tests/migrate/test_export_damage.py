"""Exports of a damaged registry, of hostile content, and to damaged targets."""

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.cli import main
from dualreg.image.digest import Digest
from tests import builders
from tests.migrate.commands import command, export
from tests.migrate.stock_trees import LAYERS, StockTree

TARGETS = ("registry-tree", "oci-layout", "docker-archive", "static-tree")
#: The first child of the index.
CHILD = builders.image(LAYERS["a"], LAYERS["b"])


def tags_at(target: str, place: Path) -> set[str]:
    """Return the full names of the tags at a target; empty if the target does not exist."""
    if not place.exists():
        return set()
    if target == "registry-tree":
        links = (place / "docker/registry/v2/repositories").glob("**/_manifests/tags/*/current/link")
        names = (str(link.relative_to(place / "docker/registry/v2/repositories")) for link in links)
        return {name.removesuffix("/current/link").replace("/_manifests/tags/", ":") for name in names}
    if target == "oci-layout":
        entries = json.loads((place / "index.json").read_text())["manifests"]
        names = (entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in entries)
        return {name for name in names if name}
    if target == "docker-archive":
        with tarfile.open(place) as archive:
            entries = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]  # a file
        return {name for entry in entries for name in entry["RepoTags"]}
    lists = [json.loads(path.read_text()) for path in (place / "v2").glob("**/tags/list")]
    return {f"{each['name']}:{tag}" for each in lists for tag in each["tags"]}


def told(output: str) -> dict[str, str]:
    """Return how it went with each tag, of what ``--json`` printed."""
    return {each["tag"]: each["status"] for each in json.loads(output)["tags"]}


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with an index that has two tags, and an image that shares nothing with it."""
    folder = tmp_path_factory.mktemp("stocked")
    tree = StockTree(folder / "stock")
    children = (CHILD, builders.image(LAYERS["c"], architecture="arm64"))
    for child in children:
        tree.image("team/index", child)
    tree.manifest("team/index", builders.index(*children), "1", "2")
    tree.image("team/well", builders.image(LAYERS["d"]), "1")
    command(folder / "data", f"run registry-tree:{tree.root}")
    return folder / "data"


def overwrite(path: Path) -> None:
    """Overwrite a file with other bytes of the same number."""
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("part", "damage"),
    [
        (Digest.of(LAYERS["b"]), overwrite),
        (Digest.of(LAYERS["b"]), Path.unlink),
        (Digest.of(CHILD.config), overwrite),
        (CHILD.digest, overwrite),
        (CHILD.digest, Path.unlink),
    ],
    ids=["layer", "missing-layer", "config", "manifest", "missing-manifest"],
)
def test_damage_of_a_part_keeps_all_tags_of_it(
    stocked: Path, tmp_path: Path, target: str, part: Digest, damage: Callable[[Path], None]
) -> None:
    """However often an index is tagged, no tag of it leaves while a part of it cannot; others do."""
    data, place = tmp_path / "data", tmp_path / "out"
    shutil.copytree(stocked, data)
    damage(StockTree(data).data(part))
    outcomes = told(export(data, f"{target}:{place} --jobs 1 --json", code=1).stdout)
    assert outcomes == {"team/index:1": "failed", "team/index:2": "failed", "team/well:1": "done"}
    assert tags_at(target, place) == {"team/well:1"}


def run(data: Path, *arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run ``dualreg export`` in a process of its own, which must end in time."""
    call = [sys.executable, "-c", "from dualreg.cli import main; main()", "export", *arguments]
    return subprocess.run(
        [*call, "--data", str(data)], timeout=seconds, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_about_its_own_part_leaves(tmp_path: Path, target: str) -> None:
    """An index whose subject is one of its own manifests is exported, in either order."""
    tree, data, place = StockTree(tmp_path / "stock"), tmp_path / "data", tmp_path / "out"
    image = builders.image(LAYERS["a"], oci=True)
    tree.image("team/app", image, "image")
    about = json.loads(builders.index(image))
    about["subject"] = builders.descriptor(image.media_type, image.manifest)
    tree.manifest("team/app", json.dumps(about).encode(), "about")
    command(data, f"run registry-tree:{tree.root}")
    ended = run(data, f"{target}:{place}", "--jobs", "8", seconds=30)
    assert ended.returncode == 0, ended.stderr
    assert len(tags_at(target, place)) == 2


def test_wrong_diff_ids_keep_one_tag_out_of_an_archive(tmp_path: Path) -> None:
    """An image whose config states wrong diff IDs is left out; others are exported, also into a pipe."""
    tree, data, place = StockTree(tmp_path / "stock"), tmp_path / "data", tmp_path / "images.tar"
    wrong = {"rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b"other"))]}}
    tree.image("team/wrong", builders.image(LAYERS["a"], oci=True, **wrong), "1")
    tree.image("team/well", builders.image(LAYERS["d"]), "1")
    command(data, f"run registry-tree:{tree.root}")
    outcomes = told(export(data, f"docker-archive:{place} --json", code=1).stdout)
    assert outcomes == {"team/well:1": "done", "team/wrong:1": "failed"}
    assert tags_at("docker-archive", place) == {"team/well:1"}
    piped = CliRunner().invoke(main, ["export", "docker-archive:-", "--data", str(data)])
    assert piped.exit_code == 1
    assert piped.stdout_bytes == place.read_bytes()
    before = place.read_bytes()
    export(data, f"docker-archive:{place} --include team/wrong", code=3)
    assert place.read_bytes() == before
    assert not [*tmp_path.glob(".*")]


@pytest.mark.parametrize("target", sorted({*TARGETS} - {"docker-archive"}))
def test_damage_at_a_target(stocked: Path, tmp_path: Path, target: str) -> None:
    """Blobs at a target are recognised by size, or read if --deep is given; manifests are always compared."""
    place, content = tmp_path / "out", LAYERS["d"]
    export(stocked, f"{target}:{place}")
    found = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    layers = [path for path, data in found.items() if data == content]
    documents = [
        path for path, data in found.items() if b"schemaVersion" in data and path.name != "index.json"
    ]
    assert layers
    assert documents
    for path in (layers[0], documents[0]):
        overwrite(path)
    export(stocked, f"{target}:{place}")
    assert {path: path.read_bytes() for path in documents} == {path: found[path] for path in documents}
    assert layers[0].read_bytes() != content
    export(stocked, f"{target}:{place} --deep")
    assert {path: path.read_bytes() for path in found} == found
