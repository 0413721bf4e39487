"""Ids that stand for different images, images that differ in their ids only, and what was noted of both."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.registry import Registry
from tests import builders
from tests.apps import client_of
from tests.builders import V1Pushed
from tests.migrate.commands import command, content
from tests.migrate.trees import EMPTY_23, EMPTY_1024, LAYERS, Tree, image_id
from tests.properties.registries import push_v1
from tests.protocol.clients import graph
from tests.protocol.clients.schema1 import push_chain
from tests.protocol.clients.tarsum import tarsum

APP = RepositoryName("team/app")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A tree of one tag on a base."""
    tree = Tree(tmp_path / "old")
    base = tree.image("base", LAYERS["a"])
    tree.tag("team/app", "1", tree.image("top", LAYERS["b"], parent=base))
    return tree


def outcome(data: Path, tree: Tree, options: str = "") -> dict[str, str]:
    """Run over the tree; return how it went with each tag, with the kind of the reason."""
    told = json.loads(command(data, f"run v1-tree:{tree.root} --json {options}", code=None).stdout)["tags"]
    return {tag["tag"]: f"{tag['status']} {tag['reason'].partition(':')[0]}".strip() for tag in told}


def _json(tree: Tree) -> None:
    tree.image("base", LAYERS["a"], comment="other")


def _layer(tree: Tree) -> None:
    tree.image("base", LAYERS["c"])


def _layer_without_checksum(tree: Tree) -> None:
    path = tree.root / "images" / image_id("base")
    (path / "_checksum").unlink()
    (path / "layer").write_bytes(builders.layer({"other": b"longer" * 100}))


def _damaged(tree: Tree) -> None:
    _layer(tree)
    (tree.root / "images" / image_id("base") / "layer").write_bytes(LAYERS["d"])


def _packed_anew(tree: Tree) -> None:
    tree.image("base", gzip.compress(gzip.decompress(LAYERS["a"]), 1, mtime=7))


def _json_anew(tree: Tree) -> None:
    path = tree.root / "images" / image_id("base")
    document = json.loads((path / "json").read_bytes()) | {"Size": 7, "config": {"Env": None}}
    (path / "json").write_text(json.dumps(dict(sorted(document.items())), indent=2))
    (path / "_checksum").unlink()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: None, "same"),
        (_json_anew, "same"),
        (_json, "failed collision"),
        (_layer, "failed collision"),
        (_layer_without_checksum, "failed collision"),
        (_damaged, "failed corrupt"),
        (_packed_anew, "same"),
    ],
)
@pytest.mark.parametrize("existing", ["skip", "overwrite"])
def test_what_has_an_id_that_is_here(
    tree: Tree, data: Path, change: Callable[[Tree], None], expected: str, existing: str
) -> None:
    """It is the same image if it has the same JSON and the same files, not because it is called so."""
    assert outcome(data, tree) == {"team/app:1": "done"}
    before = content(data)
    other = Tree(tree.root.parent / "other")
    shutil.copytree(tree.root, other.root)
    change(other)
    assert outcome(data, other, f"--existing {existing}") == {"team/app:1": expected}
    assert content(data) == before


def _twins(tree: Tree) -> None:
    for number in (1, 2, 3):
        tree.tag(
            "team/app",
            f"{number}",
            tree.image(f"twin {number}", LAYERS["b"], comment=""),
            1_400_000_000 - number,
        )
    tree.tag("team/app", "like", tree.image("like", LAYERS["z"][:-8] + b"x" * 8, checksum=None, comment=""))
    tree.tag("team/else", "1", image_id("twin 1"))


def _on_twins(tree: Tree) -> None:
    _twins(tree)
    for number in (1, 2, 3):
        top = tree.image(f"on {number}", LAYERS["c"], comment="", parent=image_id(f"twin {number}"))
        tree.tag("team/app", f"{number}", top, 1_400_000_000 - number)


@pytest.mark.slow
@pytest.mark.parametrize("build", [_twins, _on_twins])
def test_images_that_differ_in_their_ids_only(
    tmp_path: Path, data: Path, opened: Registry, build: Callable[[Tree], None]
) -> None:
    """They would be one manifest: the one tagged first is imported, whatever the number of jobs."""
    tree = Tree(tmp_path / "old")
    build(tree)
    results = []
    for jobs in (1, 8):
        found = outcome(tmp_path / str(jobs), tree, f"--jobs {jobs}")
        assert found.pop("team/app:like").startswith("failed corrupt")
        assert found == {
            "team/app:1": "skipped collision",
            "team/app:2": "skipped collision",
            "team/app:3": "done",
            "team/else:1": "done",
        }
        results.append(content(tmp_path / str(jobs)))
    assert results[0] == results[1]
    told = json.loads(command(data, f"run v1-tree:{tree.root} --json", code=1).stdout)
    assert command(data, f"verify v1-tree:{tree.root} --include *:3 --include team/else").exit_code == 0
    assert opened.bridge.resolve(APP, Tag("3")) == (tree.root / "repositories/team/app/tag_3").read_text()
    command(data, f"rollback {told['run']}")
    assert content(data) == {}


def test_images_that_become_one_manifest_all_the_same(tmp_path: Path, data: Path, opened: Registry) -> None:
    """What looks different and is not is found out before the first tag would change its id."""
    tree = Tree(tmp_path / "old")
    base = tree.image("base", LAYERS["a"])
    for name, empty in (("1", EMPTY_23), ("2", EMPTY_1024)):
        tree.tag("team/app", name, tree.image(name, empty, comment="", parent=base))
    told = json.loads(command(data, f"run v1-tree:{tree.root} --json --jobs 1", code=1).stdout)
    assert [tag["status"] for tag in told["tags"]] == ["done", "failed"]
    assert told["tags"][1]["reason"].startswith("collision")
    assert opened.bridge.resolve(APP, Tag("1")) == image_id("1")
    command(data, f"rollback {told['run']}")
    assert content(data) == {}


def test_what_clients_stated_and_called_themselves(tmp_path: Path, data: Path, opened: Registry) -> None:
    """TarSums are recorded as by a push, and V1 clients get what the old registry knew of a tag's push."""
    tree = Tree(tmp_path / "old")
    documents = {seed: json.dumps({"id": image_id(seed)}).encode() for seed in ("good", "bad", "both")}
    sums = {seed: tarsum(document, LAYERS["a"]) for seed, document in documents.items()}
    sums["bad"] = "tarsum+sha256:" + "0" * 64
    for seed, document in documents.items():
        checksum = [sums[seed]] if seed != "both" else None
        tree.tag(f"team/{seed}", "1", tree.image(seed, LAYERS["a"], document=document, checksum=checksum), 7)
    payload = tree.image("both", LAYERS["a"], document=documents["both"])
    path = tree.root / "images" / payload / "_checksum"
    path.write_text(json.dumps([*json.loads(path.read_text()), sums["both"]]))
    side = tree.root / "repositories/team/good/tag1_json"
    facts = {"last_update": 1_400_000_000, "docker_version": "1.5.0", "docker_go_version": "go1.3.3",
             "arch": "amd64", "os": "linux", "kernel": "3.13.0-24-generic"}  # fmt: skip
    side.write_text(json.dumps(facts | {"odd": "a b", "more": 5}))
    command(data, f"run v1-tree:{tree.root}")
    kept = {}
    for seed in documents:
        row = opened.v1_images.get(RepositoryName(f"team/{seed}"), image_id(seed))  # type: ignore[arg-type]  # an id's text
        kept[seed] = (row.tarsum, row.tarsum_verified)
    assert kept == {"good": (sums["good"], True), "bad": (sums["bad"], False), "both": (sums["both"], None)}
    client = client_of(opened)
    assert client.get("/v1/repositories/team/good/tags/1/json").json == facts
    told = client.get("/v1/repositories/team/bad/tags/1/json").json
    assert (told["docker_version"], told["last_update"]) == ("1.5.0", 7)


def test_an_import_over_what_docker_1_8_pushed(tree: Tree, data: Path, opened: Registry) -> None:
    """What was pushed over V2 meanwhile, by a daemon that had pulled it, is the same image.

    Old clients get the JSONs and layers of the source, and all is verified.
    """
    chain = [
        V1Pushed(ImageId(id_), tree.jsons[id_], tree.layers[id_])
        for id_ in (image_id("base"), image_id("top"))
    ]
    push_chain(opened, APP, "1", graph.stored_chain(chain))
    assert opened.bridge.tags(APP) == {"1": image_id("top")}
    command(data, f"run v1-tree:{tree.root} --existing overwrite")
    assert opened.bridge.unseen(APP) == ()
    rows = opened.v1_images.ancestry(APP, chain[-1].id)
    assert [(row.json, row.layer) for row in rows[::-1]] == [
        (Digest.of(image.json), Digest.of(image.layer)) for image in chain
    ]
    for options in ("", " --quick"):
        command(data, f"verify v1-tree:{tree.root}{options}")
    assert outcome(data, tree) == {"team/app:1": "same"}


def test_verify_after_another_release_pushed(tree: Tree, data: Path, opened: Registry) -> None:
    """A V1 client pushed the image before the import, in other words and bytes: that one stays."""
    chain = [
        V1Pushed(ImageId(id_), tree.jsons[id_], tree.layers[id_])
        for id_ in (image_id("base"), image_id("top"))
    ]
    push_v1(opened, APP, Tag("1"), graph.stored_chain(chain))
    before = opened.v1_images.ancestry(APP, chain[-1].id)
    assert outcome(data, tree) == {"team/app:1": "same"}
    assert opened.v1_images.ancestry(APP, chain[-1].id) == before
    for options in ("", " --quick"):
        command(data, f"verify v1-tree:{tree.root}{options}")
