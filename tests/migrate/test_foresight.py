"""What inspect reports of unusual and broken documents is what run then skips."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.sources.registry_tree import RegistryTree
from dualreg.migrate.v2.survey import survey_manifests
from tests.documents import IMAGE, IN_USE, Document
from tests.migrate.commands import command
from tests.migrate.stock_trees import LAYERS as STOCK_LAYERS
from tests.migrate.stock_trees import StockTree, small
from tests.migrate.trees import LAYERS, Tree
from tests.protocol.test_bad_input import IMAGE as OTHER
from tests.protocol.test_bad_input import MANIFESTS

BROKEN = {name: Document(media_type, payload) for name, (media_type, payload, _) in MANIFESTS.items()}


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_inspect_foretells_what_run_refuses(tmp_path: Path, data: Path, *, strict: bool) -> None:
    """Every tag that run does not bring is one that inspect and the plan name, and no other."""
    tree, config = StockTree(tmp_path / "stock"), tmp_path / "dualreg.toml"
    config.write_text(f"strict_manifests = {str(strict).lower()}\n")
    tags: dict[str, Document] = {}
    for image in (IMAGE, OTHER):
        tree.image("team/app", image)
    for number, document in enumerate([*IN_USE.values(), *BROKEN.values()]):
        tags[f"t{number}"] = document
        tree.manifest("team/app", document.payload, f"t{number}")
    line = f"registry-tree:{tree.root} --config {config}"
    told = json.loads(command(data, f"inspect {line} --json", code=1).stdout)["findings"]
    foretold = {each["where"] for each in told if each["kind"] not in ("wrong-size", "untagged")}
    done = json.loads(command(data, f"run {line} --json", code=1).stdout)["tags"]
    status = {each["tag"].rpartition(":")[2]: each["status"] for each in done}
    assert "failed" not in status.values()
    for tag, document in tags.items():
        where = f"team/app@{Digest.of(document.payload)}"
        refused = status[tag] == "skipped"
        named = not foretold.isdisjoint({where, *_absent(document)})
        assert (tag, document.payload[:200], refused) == (tag, document.payload[:200], named)
        if document in IN_USE.values():
            assert refused == (strict and not document.sizes)
    noted = {each["where"] for each in told if each["kind"] == "wrong-size"}
    wrong = {f"team/app@{Digest.of(each.payload)}" for each in IN_USE.values() if not each.sizes}
    assert noted == (set() if strict else wrong)


def _absent(document: Document) -> set[str]:
    """Return the digests of content that a manifest needs and the tree lacks."""
    text = "" if document in IN_USE.values() else document.payload.decode(errors="replace")
    return {f"team/app@sha256:{digit * 64}" for digit in "01" if f"sha256:{digit * 64}" in text}


def test_a_wrong_size_that_many_state_is_looked_into_once(tmp_path: Path) -> None:
    """A blob is read once, however many manifests state a wrong size of it."""
    tree, document = StockTree(tmp_path / "stock"), json.loads(IMAGE.manifest)
    tree.image("team/app", IMAGE)
    document["layers"][0]["size"] += 1
    for number in range(5):
        document["annotations"] = {"number": str(number)}
        tree.manifest("team/app", json.dumps(document).encode(), str(number))
    opened = list[str]()

    class Counting(RegistryTree):
        def blob(self, repository: str, digest: Digest) -> SourceBytes:
            found = super().blob(repository, digest)
            return replace(found, open=lambda: (opened.append(str(digest)), found.open())[1])

    survey = survey_manifests(Counting(tree.v2))
    assert len([each for each in survey.findings if each.kind == "wrong-size"]) == 5
    assert opened == [str(Digest.of(IMAGE.layers[0]))]


def test_a_cut_blob_is_not_taken_for_a_wrong_size(tmp_path: Path, data: Path) -> None:
    """If a blob has not the stated size, its digest decides whether blob or manifest is wrong."""
    tree = StockTree(tmp_path / "stock")
    tree.image("team/app", IMAGE, "1")
    tree.data(Digest.of(IMAGE.layers[0])).write_bytes(IMAGE.layers[0][:-1])
    assert "corrupt: " in command(data, f"inspect registry-tree:{tree.root}", code=1).output
    assert "skipped: corrupt: " in command(data, f"run registry-tree:{tree.root}", code=None).output


def _v1(folder: Path) -> tuple[str, list[Path]]:
    tree = Tree(folder)
    base = tree.image("base", LAYERS["a"])
    tree.tag("team/app", "1", tree.image("app", LAYERS["b"], parent=base))
    tree.tag("team/app", "2", base)
    files = [*folder.glob("images/*/json"), *folder.glob("images/*/layer")]
    return f"v1-tree:{folder}", files


def _stock(folder: Path) -> tuple[str, list[Path]]:
    tree = small(folder)
    tree.schema1("old/one", "1", STOCK_LAYERS["c"])
    return f"registry-tree:{folder}", [*tree.v2.glob("blobs/*/*/*/data")]


@pytest.mark.slow
@pytest.mark.parametrize("make", [_v1, _stock])
def test_empty_files_are_foretold(make: Callable[[Path], tuple[str, list[Path]]], tmp_path: Path) -> None:
    """Documents, layers and blobs of no bytes are named without a deep look; a run fails for none of them."""
    source, files = make(tmp_path / "old")
    assert len(files) > 3
    for number, file in enumerate(sorted(files)):
        data, content = tmp_path / str(number), file.read_bytes()
        file.write_bytes(b"")
        told = json.loads(command(data, f"inspect {source} --json", code=None).stdout)
        corrupt = {each["text"] for each in told["findings"] if each["kind"] == "corrupt"}
        done = json.loads(command(data, f"run {source} --json", code=None).stdout)["tags"]
        refused = [each["reason"] for each in done if each["status"] != "done"]
        assert [each["status"] for each in done if each["status"] not in ("done", "skipped")] == []
        assert all(any(text in reason for text in corrupt) for reason in refused)
        if b'"signature"' not in content and b'"artifactType"' not in content:
            assert refused, content[:80]
        file.write_bytes(content)
