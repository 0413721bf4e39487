"""What goes wrong with an old registry's tree, or with ours, and whose fault it is said to be."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.migrate.commands import command, content
from tests.migrate.trees import LAYERS, Tree, image_id


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A tree with one tag."""
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "1", tree.image("app", LAYERS["a"]))
    return tree


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    folder = Path(tempfile.mkdtemp(dir=shared))
    yield folder
    shutil.rmtree(folder)


def told(data: Path, line: str, code: int) -> Mapping[str, str]:
    """Return how it went with each tag, with the reason."""
    tags = json.loads(command(data, f"{line} --json", code=code).stdout)["tags"]
    return {tag["tag"]: f"{tag['status']} {tag['reason']}".strip() for tag in tags}


def test_what_cannot_be_linked_ends_the_run(tree: Tree, elsewhere: Path) -> None:
    """Whoever asked for files that cost no disk may have no room for copies."""
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
    """The first releases had whatever Python had: what agrees proves a layer, what does not refuses it."""
    for name in ("md5", "sha1", "sha512", "blake2b"):
        for good in (True, False):
            tag = f"{name}-{good}"
            document = json.dumps({"id": image_id(tag)}).encode()
            sum_ = hashlib.new(name, document + b"\n" + LAYERS["b" if good else "c"]).hexdigest()
            image = tree.image(
                tag, LAYERS["b"], document=document, marked=good, checksum=f"{name}:{sum_.upper()}"
            )
            tree.tag("team/sums", tag, image)
    for stated in ("shake_128:00", "never-heard-of:00"):
        tree.tag("team/sums", stated[:5], tree.image(stated, LAYERS["d"], checksum=stated))
    outcome = told(data, f"run v1-tree:{tree.root}", code=1)
    for tag, status in outcome.items():
        assert status.startswith("failed corrupt" if tag.endswith("False") else "done"), (tag, status)
