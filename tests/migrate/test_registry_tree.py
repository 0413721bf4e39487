"""Imports of the reference registry's storage, by copy and in place."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from dualreg.image.jws import verified_payload
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from tests import builders
from tests.apps import client_of
from tests.documents import IMAGE, IN_USE
from tests.migrate import stock_trees
from tests.migrate.commands import command, content, export, snapshot
from tests.migrate.stock_trees import Expected, StockTree


@pytest.fixture
def expected(tmp_path: Path) -> Expected:
    """The tree with everything in it."""
    return stock_trees.everything(tmp_path / "stock")


def here(registry: Registry, tag: str) -> Digest:
    """Return the digest of a tag in this registry."""
    name, _, reference = tag.rpartition(":")
    return registry.manifests.find(RepositoryName(name), Tag(reference)).digest


def test_inspect_names_everything(expected: Expected, data: Path) -> None:
    """Every class of what can be wrong, by metadata only; nothing is written."""
    before = snapshot(expected.tree.root)
    told = json.loads(command(data, f"inspect registry-tree:{expected.tree.root} --json", code=1).stdout)
    assert {finding["kind"] for finding in told["findings"]} == expected.kinds
    assert told["tags"] == len(expected.good) + len(expected.bad)
    for path in (expected.tree.root, expected.tree.v2.parent, expected.tree.v2):
        again = json.loads(command(data, f"inspect registry-tree:{path} --json", code=1).stdout)
        assert again | {"free_bytes": 0, "free_inodes": 0} == told | {"free_bytes": 0, "free_inodes": 0}
    assert snapshot(expected.tree.root) == before
    assert not data.exists()


def test_deep_inspection_reads_blobs(tmp_path: Path, data: Path) -> None:
    """A blob of the right size and wrong content."""
    tree = stock_trees.small(tmp_path / "stock")
    assert command(data, f"inspect registry-tree:{tree.root} --deep").exit_code == 0
    tree.data(Digest.of(stock_trees.LAYERS["b"])).write_bytes(bytes(len(stock_trees.LAYERS["b"])))
    assert "corrupt" in command(data, f"inspect registry-tree:{tree.root} --deep", code=1).output


@pytest.mark.slow
@pytest.mark.parametrize("link", ["auto", "hard", "copy"])
def test_everything_that_can_be_is_taken_in(
    expected: Expected, data: Path, opened: Registry, link: str
) -> None:
    """Under the same digests, for both generations of clients, and verified; the source is not touched."""
    before = snapshot(expected.tree.root)
    source = f"registry-tree:{expected.tree.root}"
    told = json.loads(command(data, f"run {source} --link {link} --json", code=1).stdout)
    assert {tag: here(opened, tag) for tag in expected.good} == expected.good
    reasons = {each["tag"]: each["reason"] for each in told["tags"]}
    assert {tag: reasons[tag].split(":")[0] for tag in expected.bad} == expected.bad
    assert snapshot(expected.tree.root) == before
    client = client_of(opened)
    for name, digest in expected.untagged.items():
        (about,) = client.get(f"/v2/{name}/referrers/{expected.good[f'{name}:1']}").json["manifests"]
        assert about["digest"] == str(digest)
        (further,) = client.get(f"/v2/{name}/referrers/{digest}").json["manifests"]
        assert further["artifactType"] == "application/x.test"
    assert client.get("/v1/repositories/team/app/tags").json.keys() >= {"docker", "oci", "also", "vague"}
    assert command(data, f"verify {source}", code=1).output.startswith(
        f"{len(expected.good) + 2} of {len(expected.good) + 2} tags"
    )
    again = json.loads(command(data, f"run {source} --link {link} --json", code=1).stdout)["counts"]
    lost = {status: count for status, count in told["counts"].items() if status != "done"}
    assert again == lost | {"same": told["counts"]["done"]}


@pytest.mark.slow
def test_signatures(expected: Expected, data: Path, opened: Registry) -> None:
    """Those that were kept are served again; a manifest without is signed by this registry."""
    command(data, f"run registry-tree:{expected.tree.root}", code=1)
    client = client_of(opened)
    for tag in ("signed", "bare", "foreign"):
        answer = client.get(f"/v2/old/one/manifests/{tag}")
        assert Digest.of(verified_payload(answer.data)) == expected.good[f"old/one:{tag}"]
        (signature,) = json.loads(answer.data)["signatures"]
        (ours,) = json.loads(client.get("/v2/old/one/manifests/bare").data)["signatures"]
        assert (signature["header"]["jwk"] == ours["header"]["jwk"]) == (tag != "signed")


@pytest.mark.slow
def test_choosing(expected: Expected, data: Path, opened: Registry) -> None:
    """Globs, names, and what no tag leads to."""
    source = f"registry-tree:{expected.tree.root}"
    plan = [
        json.loads(line)
        for line in command(data, f"plan {source} --include team/app:*", code=None).stdout.splitlines()
    ]
    chosen = {f"{line['repository']}:{line['tag']}" for line in plan if line["action"] == "import"}
    assert chosen == {tag for tag in expected.good if tag.startswith("team/app:")}
    command(data, f"run {source} --include team/index:1 --include library/* --library strip")
    assert here(opened, "short:1") == expected.good["library/short:1"]
    assert client_of(opened).get("/v2/_catalog").json == {"repositories": ["short", "team/index"]}
    command(data, f"run {source} --untagged", code=1)
    image = builders.image(stock_trees.LAYERS["a"], oci=True)
    assert opened.manifests.find(RepositoryName("team/app"), image.digest).digest == image.digest


def test_signatures_come_with_what_they_are_about(tmp_path: Path, data: Path) -> None:
    """Tags that are signatures, as cosign's are, are imported with their image; they are no images."""
    tree = stock_trees.StockTree(tmp_path / "stock")
    for number in (1, 2, 3):
        image = tree.image("team/app", builders.image(stock_trees.LAYERS["xabc"[number]]), str(number))
        for letter in "de" if number == 2 else "d":
            signature = builders.image(stock_trees.LAYERS[letter], author=str(image))
            image = tree.image("team/app", signature, f"sha256-{image.hex}.sig")
        link = tree.v2 / f"repositories/team/app/_manifests/tags/{number}/current/link"
        os.utime(link, (0, 1_000_000_000 + number))

    def chosen(line: str) -> list[str]:
        lines = command(data, f"plan registry-tree:{tree.root} {line}", code=None).stdout.splitlines()
        tags = [each["tag"] for each in map(json.loads, lines) if each["action"] == "import"]
        return sorted(tag[:9] for tag in tags)

    assert len(chosen("--include team/app:2")) == 3
    assert len(chosen("--latest 2")) == 5
    assert chosen("--include team/app:2 --exclude *:sha256-*") == ["2"]
    assert len(chosen("--include *:sha256-*")) == 4
    assert len(chosen("")) == 7


def test_sparse_indexes(expected: Expected, data: Path, tmp_path: Path) -> None:
    """With sparse_indexes, an index is imported without the manifests that the source lacks."""
    config = tmp_path / "dualreg.toml"
    config.write_text("sparse_indexes = true\n")
    line = f"run registry-tree:{expected.tree.root} --include lost/child:* --config {config}"
    assert "1 done" in command(data, line).output
    line = line.replace("run", "verify", 1)
    assert "1 of 1" in command(data, line).output


@pytest.mark.slow
def test_rollback(expected: Expected, data: Path) -> None:
    """What a run added is removed, except what another run needs."""
    source = f"registry-tree:{expected.tree.root}"
    command(data, f"run {source} --include team/app:docker")
    before = content(data)
    command(data, f"run {source} --untagged", code=1)
    first, second = sorted(path.stem for path in (data / "migrations").glob("*.jsonl"))
    command(data, f"rollback {second}")
    assert content(data) == before
    command(data, f"rollback {first}")
    assert content(data) == {}


@pytest.mark.slow
def test_verify_finds_damage(expected: Expected, data: Path) -> None:
    """Verify finds damage in this registry and in the source, and a tag that was moved."""
    source = f"registry-tree:{expected.tree.root}"
    command(data, f"run {source}", code=1)
    ours = stock_trees.StockTree(data)
    for letter in "cf":
        ours.data(Digest.of(stock_trees.LAYERS[letter])).chmod(0o644)
    ours.data(Digest.of(stock_trees.LAYERS["c"])).write_bytes(bytes(len(stock_trees.LAYERS["c"])))
    ours.data(Digest.of(stock_trees.LAYERS["f"])).unlink()
    there = expected.tree.data(Digest.of(stock_trees.LAYERS["d"]))
    there.write_bytes(bytes(there.stat().st_size))
    expected.tree.image("team/app", builders.image(stock_trees.LAYERS["o"]), "also")
    wrong = json.loads(command(data, f"verify {source} --json", code=1).stdout)["wrong"]
    assert {tag: problems[0].rpartition(": ")[2] for tag, problems in wrong.items()} == {
        "team/app:oci": "damaged in this registry",
        "team/app/below:1": "damaged in this registry",
        "old/one:signed": "missing from the store",
        "old/one:bare": "missing from the store",
        "team/index:1": "differs from the source",
        "team/app:also": str(expected.good["team/app:docker"]),
    }


@pytest.mark.slow
def test_in_place(expected: Expected) -> None:
    """Only the catalog is filled: no layer and no link is touched, and a rollback leaves every file.

    The times of links are those of the pushes to the other registry.
    """
    root = expected.tree.root
    paths = [expected.tree.data(Digest.of(layer)) for layer in stock_trees.LAYERS.values()]
    layers = {path: path.stat() for path in paths if path.exists()}
    links = {path: _times(path) for path in (expected.tree.v2 / "repositories").rglob("link")}
    before = content(root)
    source = f"registry-tree:{root}"
    told = json.loads(command(root, f"run {source} --json", code=1).stdout)
    assert Counter(each["status"] for each in told["tags"])["done"] == len(expected.good) + 2
    assert {path: each for path, each in content(root).items() if path in before} == before
    assert [path for path, each in layers.items() if path.stat().st_ctime_ns != each.st_ctime_ns] == []
    assert "match the source" in command(root, f"verify {source}", code=1).output
    assert {path: _times(path) for path in links} == links
    after = content(root)
    command(root, f"rollback {told['run']}")
    assert content(root) == after
    again = json.loads(command(root, f"run {source} --json", code=1).stdout)
    assert again["counts"] == told["counts"]


def _times(path: Path) -> tuple[int, int]:
    """Return when a file was written, and when it was last touched at all."""
    found = path.stat()
    return found.st_mtime_ns, found.st_ctime_ns


def test_the_wrong_sort(tmp_path: Path, data: Path) -> None:
    """A folder that is something else is refused, with a word about what it looks like."""
    (tmp_path / "images").mkdir()
    (tmp_path / "repositories").mkdir()
    output = command(data, f"inspect registry-tree:{tmp_path}", code=2).output
    assert "v1-tree:" in output
    assert output.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a build cache", "a blob as entry, as if it were a manifest"])
def test_an_index_of_blobs(tmp_path: Path, data: Path, name: str) -> None:
    """A build cache can be imported, verified, exported, imported again and rolled back."""
    tree, document = StockTree(tmp_path / "stock"), IN_USE[name]
    for content_ in IMAGE.blobs.values():
        tree.layer("team/app", content_)
    tree.manifest("team/app", document.payload, "cache")
    source, layout = f"registry-tree:{tree.root}", f"oci-layout:{tmp_path / 'layout'}"
    assert "no problems found" in command(data, f"inspect {source}").output
    command(data, f"run {source}")
    command(data, f"verify {source}")
    layer = tree.data(Digest.of(IMAGE.layers[0])).read_bytes()
    export(data, f"{layout} --include team/app:cache")
    assert (tmp_path / "layout/blobs/sha256" / Digest.of(layer).hex).read_bytes() == layer
    other = tmp_path / "other"
    run = json.loads(command(other, f"run {layout} --json").stdout)["run"]
    command(other, f"verify {layout}")
    command(other, f"rollback {run}")
    assert not [path for path in content(other) if Digest.of(layer).hex in path]
