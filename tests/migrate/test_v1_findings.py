"""Findings and failures over damaged trees of docker-registry."""

import gzip
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dualreg.migrate.sources.v1_tree import V1Tree
from tests import builders
from tests.migrate.commands import command, content
from tests.migrate.trees import LAYERS, Tree, image_id, payload


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A tree with one tag."""
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "1", tree.image("app", LAYERS["a"]))
    return tree


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    here = tmp_path.stat().st_dev
    others = [path for path in map(Path, ("/dev/shm", "/tmp", "/var/tmp")) if path.is_dir()]
    other = next((path for path in others if path.stat().st_dev != here), None)
    if other is None:
        pytest.skip("there is no second file system")
    folder = Path(tempfile.mkdtemp(dir=other))
    yield folder
    shutil.rmtree(folder)


def told(data: Path, line: str, code: int) -> Mapping[str, str]:
    """Return how it went with each tag, with the reason."""
    tags = json.loads(command(data, f"{line} --json", code=code).stdout)["tags"]
    return {tag["tag"]: f"{tag['status']} {tag['reason']}".strip() for tag in tags}


def test_what_cannot_be_linked_ends_the_run(tree: Tree, elsewhere: Path) -> None:
    """With --link hard, a run ends if files cannot be linked, since the disk may have no room for copies."""
    output = command(elsewhere, f"run v1-tree:{tree.root} --link hard", code=2).output
    assert "cannot link" in output
    assert "--link copy" in output
    assert content(elsewhere) == {}


@pytest.mark.parametrize("link", ["auto", "copy", "hard"])
def test_a_store_that_cannot_be_written_to(tree: Tree, data: Path, link: str) -> None:
    """It is no fault of the source, and the run ends."""
    data.mkdir()
    (data / "uploads").touch()
    output = command(data, f"run v1-tree:{tree.root} --link {link}", code=2).output
    assert "uploads" in output
    assert "corrupt" not in output


def test_checksums_in_any_algorithm(tree: Tree, data: Path) -> None:
    """Checksums in any algorithm, as the first releases wrote them, prove or refuse a layer."""
    for name in ("md5", "sha1", "sha512", "blake2b"):
        for good in (True, False):
            tag = f"{name}-{good}"
            document = json.dumps({"id": image_id(tag), "author": tag}).encode()
            sum_ = hashlib.new(name, document + b"\n" + LAYERS["b" if good else "c"]).hexdigest()
            image = tree.image(
                tag, LAYERS["b"], document=document, marked=good, checksum=f"{name}:{sum_.upper()}"
            )
            tree.tag("team/sums", tag, image)
    for stated in ("shake_128:00", "never-heard-of:00"):
        tree.tag("team/sums", stated[:5], tree.image(stated, LAYERS["d"], checksum=stated, author=stated))
    outcome = told(data, f"run v1-tree:{tree.root}", code=1)
    for tag, status in outcome.items():
        assert status.startswith("failed corrupt" if tag.endswith("False") else "done"), (tag, status)


def test_trees_below_a_folder(tree: Tree, data: Path, tmp_path: Path) -> None:
    """One tree below the folder is found; several must be chosen from; another kind of tree is named."""
    line = f"inspect v1-tree:{tmp_path}"
    command(data, line)
    shutil.copytree(tree.root, tmp_path / "registry")
    output = command(data, line, code=2).output
    assert f"{tree.root}, {tmp_path / 'registry'}" in output
    command(data, f"{line}/registry")
    other = tmp_path / "registry" / "v2"
    (other / "docker/registry/v2").mkdir(parents=True)
    for name in ("registry/v2", "registry/images/" + image_id("app")):
        output = command(data, f"{line}/{name}", code=2).output
        assert (f"looks like registry-tree:{other}" in output) is (name == "registry/v2")


def test_files_that_go_while_they_are_read(tree: Tree) -> None:
    """A tag that was listed, and deleted before it was read, is none; so is a repository."""
    source = V1Tree.open(tree.root)
    tree.tag("team/app", "2", image_id("app"))
    tree.tag("team/gone", "1", image_id("app"))
    told = source.tags()
    assert next(told).tag == "1"  # type: ignore[union-attr]  # a tag
    (tree.root / "repositories/team/app/tag_2").unlink()
    shutil.rmtree(tree.root / "repositories/team/gone")
    assert [*told] == []


def test_long_lists_of_images(tree: Tree, data: Path) -> None:
    """No release ever pruned them; they tell where images without a tag belong."""
    tree.image("nobody's", LAYERS["b"])
    listed = [{"id": image_id(str(number))} for number in range(20_000)]
    content = json.dumps([*listed, {"id": image_id("nobody's")}])
    assert len(content) > 1 << 20
    (tree.root / "repositories/team/app/_index_images").write_text(content)
    lines = command(data, f"plan v1-tree:{tree.root} --untagged").stdout.splitlines()
    assert {json.loads(line)["repository"] for line in lines} == {"team/app"}


def test_a_mark_that_nothing_can_disprove(tree: Tree, data: Path) -> None:
    """Inspect reports it."""
    tree.tag("team/app", "2", tree.image("marked", LAYERS["b"], marked=True, checksum=None))
    assert "partial: team/app:2" in command(data, f"inspect v1-tree:{tree.root}", code=1).output
    assert told(data, f"run v1-tree:{tree.root}", code=1)["team/app:2"].startswith("skipped partial")


_TAR = builders.tar({"a": b"x" * 5000, "b": b"y" * 5000})
_WHOLE, _CUT = gzip.compress(_TAR, mtime=0), _TAR[: 512 + 5120]  # between two members


@pytest.mark.parametrize("form", ["list", "text"])
@pytest.mark.parametrize(
    ("layer", "whole"),
    [
        (_WHOLE, True),
        (_TAR, True),
        (gzip.compress(_TAR[:512]) + gzip.compress(_TAR[512:]), True),
        (b"", False),
        (_WHOLE[:-9], False),
        (_CUT, False),
        (gzip.compress(_CUT, mtime=0), False),  # as daemons ended it whose archive failed
    ],
    ids=["gzip", "tar", "two gzips", "nothing", "cut gzip", "cut tar", "gzip of cut tar"],
)
def test_a_mark_and_the_checksum_of_what_arrived(
    tmp_path: Path, data: Path, layer: bytes, form: str, *, whole: bool
) -> None:
    """A list proves nothing, as 0.7 to 0.9 wrote it; what 0.6 wrote had been sent by the client."""
    tree = Tree(tmp_path / "old")
    document = json.dumps({"id": image_id("app")}).encode()
    sum_ = payload(document, layer)
    stated = [sum_] if form == "list" else sum_
    tree.tag("team/app", "1", tree.image("app", layer, document=document, marked=True, checksum=stated))
    line = f"v1-tree:{tree.root}"
    proven = form == "text" and layer != b""
    found = json.loads(command(data, f"inspect {line} --json", code=1).stdout)["findings"]
    assert any(each["kind"] == "unverified" for each in found) == (form == "list" and layer != b"")
    imported = whole or (proven and layer in (_CUT, gzip.compress(_CUT, mtime=0)))
    (status,) = told(data, f"run {line}", code=0 if imported else 3).values()
    assert ("done" if imported else "partial") in status
    (report,) = json.loads(command(data, "report --json", code=None).stdout)
    assert [image["verified"] for image in report["images"]] == ([proven] if imported else [])


def test_a_parent_that_only_daemons_read(tree: Tree, data: Path) -> None:
    """The old registry served such an image as a base; inspect names it, and run does not take it."""
    image = tree.image("above", LAYERS["b"], Parent=image_id("app"))
    tree.tag("team/app", "2", image)
    line = f"v1-tree:{tree.root}"
    found = json.loads(command(data, f"inspect {line} --json", code=1).stdout)["findings"]
    assert {(each["kind"], each["where"]) for each in found} == {
        ("corrupt", image),
        ("corrupt", "team/app:2"),
    }
    assert "Parent in JSON must be spelt parent" in found[0]["text"]
    outcomes = told(data, f"run {line}", code=1)
    assert outcomes["team/app:1"] == "done"
    assert outcomes["team/app:2"].startswith("skipped corrupt: ")
