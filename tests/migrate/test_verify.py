"""Verify compares everything that clients of either generation could get with the source."""

import gzip
import json
import lzma
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.verify import BlobComparison
from dualreg.registry import Registry
from dualreg.registry.provenance import Provenance
from tests import builders
from tests.migrate.commands import command
from tests.migrate.stock_trees import small
from tests.migrate.test_files import saved
from tests.migrate.trees import LAYERS, Tree, image_id
from tests.state import blob_file


def overwrite(path: Path, old: bytes, new: bytes) -> None:
    """Damage a file without changing its size."""
    content = path.read_bytes()
    assert old in content
    path.chmod(0o644)
    path.write_bytes(content.replace(old, new))


def problems(data: Path, line: str) -> dict[str, list[str]]:
    """Return what a comparison finds; the exit status must agree."""
    result = command(data, f"verify {line} --json", code=None)
    wrong: dict[str, list[str]] = json.loads(result.stdout)["wrong"]
    assert result.exit_code == bool(wrong)
    return wrong


#: Changes something of ours, behind our back.
Damage = Callable[[Path, Registry], None]


@pytest.fixture
def source(tmp_path: Path, data: Path) -> str:
    """An imported tree of two tags on one base, in a compression that V2 does not know."""
    tree = Tree(tmp_path / "old")
    base = tree.image("base", lzma.compress(builders.tar({"x": b"x" * 600})))
    empty = tree.image("empty", gzip.compress(bytes(1024), mtime=0), parent=base)
    for name in ("1", "2"):
        tree.tag("team/app", name, tree.image(name, LAYERS["abc"[int(name)]], parent=empty))
    command(data, f"run v1-tree:{tree.root}")
    return f"v1-tree:{tree.root}"


def manifest(opened: Registry, tag: str) -> tuple[Digest, dict[str, object], dict[str, object]]:
    """Return the manifest of a tag of this registry, by its digest, with its config."""
    row = opened.manifests.find(RepositoryName("team/app"), Tag(tag))
    document = json.loads(opened.manifests.payload(row))
    config = opened.manifests.documents.read(Digest.parse(document["config"]["digest"]))
    return row.digest, document, json.loads(config)


def _manifest(data: Path, opened: Registry) -> None:
    overwrite(blob_file(data, manifest(opened, "1")[0]), b"schemaVersion", b"schemaversion")


def _config(data: Path, opened: Registry) -> None:
    overwrite(blob_file(data, manifest(opened, "1")[1]["config"]["digest"]), b"linux", b"plan9")  # type: ignore[index]  # a document


def _layer(data: Path, opened: Registry) -> None:
    path = blob_file(data, manifest(opened, "1")[1]["layers"][0]["digest"])  # type: ignore[index]  # a document
    overwrite(path, path.read_bytes(), bytes(path.stat().st_size))


def _json(data: Path, opened: Registry) -> None:
    row = opened.v1_images.get(RepositoryName("team/app"), image_id("1"))  # type: ignore[arg-type]  # an id's text
    overwrite(blob_file(data, row.json), b"linux", b"plan9")


@pytest.mark.parametrize(
    ("damage", "tags", "text"),
    [
        (_manifest, 1, "manifest sha256:"),
        (_config, 1, "in its manifest: damaged in this registry"),
        (_layer, 2, "in its manifest: damaged in this registry"),
        (_json, 1, "JSON damaged in this registry"),
    ],
)
def test_damage_that_clients_would_meet(
    source: str, data: Path, opened: Registry, *, damage: Damage, tags: int, text: str
) -> None:
    """A byte of anything that a manifest leads to, shared or not, in V1 or in V2 form only."""
    assert problems(data, source) == {}
    assert problems(data, f"{source} --quick") == {}
    damage(data, opened)
    found = problems(data, source)
    assert len(found) == tags
    assert all(text in "\n".join(each) for each in found.values())
    assert bool(problems(data, f"{source} --quick")) is (damage is not _layer)


def test_quickly_sizes_are_compared(source: str, data: Path, opened: Registry) -> None:
    """--quick compares sizes, also of blobs that only V2 clients get."""
    path = blob_file(data, manifest(opened, "1")[1]["layers"][0]["digest"])  # type: ignore[index]  # a document
    path.chmod(0o644)
    path.write_bytes(b"xz")
    found = problems(data, f"{source} --quick")
    assert ["has 2 bytes" in each[0] for each in found.values()] == [True, True]


@pytest.mark.parametrize("change", ["swap", "history", "other"])
def test_configs_of_other_images(source: str, data: Path, opened: Registry, change: str) -> None:
    """A whole manifest that is not that of the V1 image: files in another order, a step less, other files."""
    _, document, config = manifest(opened, "1")
    name = RepositoryName("team/app")
    diff_ids = config["rootfs"]["diff_ids"]  # type: ignore[index]  # a document
    match change:
        case "swap":
            diff_ids.reverse()
        case "history":
            del config["history"][-2]  # type: ignore[attr-defined]  # a document
        case "other":
            document["layers"][0] = manifest(opened, "2")[1]["layers"][1]  # type: ignore[index]  # a document
    made = opened.uploads.ingest(name, [json.dumps(config).encode()])
    document["config"] |= {"digest": str(made.digest), "size": made.size}  # type: ignore[operator]  # a document
    payload = json.dumps(document).encode()
    image = image_id("1")
    media_type = str(document["mediaType"])
    opened.manifests.put(name, Tag("1"), media_type, payload, provenance=Provenance(image))  # type: ignore[arg-type]  # an id's text
    (tag, found), *others = problems(data, source).items()
    assert (tag, others) == ("team/app:1", [])
    expected = {"swap": "in their order", "history": "2 steps, expected 3", "other": "diff ID"}
    assert expected[change] in found[0]


def _images(opened: Registry) -> Iterator[dict[str, object]]:
    """Yield the parts of every tagged manifest of this registry by their digests, the first layer for all."""
    for name in map(RepositoryName, opened.repositories.list(last="", limit=99).rows):
        for tag in opened.tags.list(name).rows:
            row = opened.manifests.find(name, tag)
            document = json.loads(opened.manifests.payload(row))
            parts = {"manifest": row.digest}
            if "config" in document:
                parts |= {"config": document["config"]["digest"], "layers": document["layers"][0]["digest"]}
            yield parts


@pytest.mark.parametrize("part", ["config", "layers", "manifest"])
@pytest.mark.parametrize("sort", ["saved", "stock"])
def test_damage_of_other_sorts(tmp_path: Path, data: Path, opened: Registry, sort: str, part: str) -> None:
    """What `docker save` wrote, and the reference registry's tree, likewise."""
    if sort == "saved":
        line = f"docker-archive:{saved(tmp_path / 'x.tar', (builders.image(LAYERS['a']), ['team/app:1']))}"
    else:
        small(tmp_path / "old")
        line = f"registry-tree:{tmp_path / 'old'}"
    command(data, f"run {line}")
    assert problems(data, line) == {}
    assert problems(data, f"{line} --quick") == {}
    parts = next(parts for parts in _images(opened) if "config" in parts)
    path = blob_file(data, parts[part])
    overwrite(path, path.read_bytes(), path.read_bytes()[:-1] + b"?")
    assert problems(data, line)


def test_layers_of_an_image_id_are_compared_in_each_repository() -> None:
    """Another repository, whose layer for that ID is another one, has problems of its own."""
    layers = [b"one", b"another"]
    held = {Digest.of(layer): layer for layer in layers}
    comparison = BlobComparison(SimpleNamespace(open=lambda digest: BytesIO(held[digest])), quick=False)  # type: ignore[arg-type] # all that it uses
    found = [
        [*comparison.problems("id", digest, lambda: SourceBytes(3, lambda: BytesIO(b"one")))]
        for digest in held
    ]
    assert found == [[], ["id: differs from the source"]]
