"""``dualreg why`` explains a blob by its digest, a tag, or a digest in a repository."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dualreg.assembly import open_registry, prepare
from dualreg.cli import main
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.settings import Settings
from tests import builders
from tests.programs import unannounced
from tests.properties.registries import push_v2

NAME = RepositoryName("team/app")
IMAGE = builders.image(builders.layer({"a": b"a"}))
LAYER, UNUSED, UNKNOWN = Digest.of(IMAGE.layers[0]), Digest.of(b"unused"), Digest.of(b"unknown")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of a registry with an image, and with a blob that nothing uses."""
    prepare(Settings(data=tmp_path))
    registry = open_registry(Settings(data=tmp_path))
    push_v2(registry, NAME, Tag("1"), IMAGE)
    registry.uploads.ingest(NAME, [b"unused"])
    registry.close()
    return tmp_path


def why(data: Path, *arguments: str) -> Result:
    """Run the command."""
    return unannounced(CliRunner().invoke(main, ["why", *arguments, "--data", str(data)]))


@pytest.mark.parametrize(
    ("reference", "lines"),
    [
        (str(LAYER), ["team/app:", f"  tag 1 > manifest {IMAGE.digest} > layer {LAYER}"]),
        (f"team/app@{LAYER}", ["team/app:", f"  tag 1 > manifest {IMAGE.digest} > layer {LAYER}"]),
        ("team/app:1", ["team/app:", f"  tag 1 > manifest {IMAGE.digest}"]),
    ],
)
def test_what_keeps_it(data: Path, reference: str, lines: list[str]) -> None:
    """One line for each path, below its repository."""
    result = why(data, reference)
    assert (result.exit_code, result.stdout.splitlines()[1:]) == (0, lines)


def test_what_nothing_keeps(data: Path) -> None:
    """It is shown until when it stays, to people and to programs."""
    line = why(data, str(UNUSED)).stdout.splitlines()[-1]
    assert line.startswith(f"  blob {UNUSED} (unused; kept until 20")
    document = json.loads(why(data, str(UNUSED), "--json").stdout)
    (holder,) = document.pop("repositories")
    assert document == {"digest": str(UNUSED), "size": 6, "until": None, "more": 0}
    ((path,), name) = holder["paths"], holder["repository"]
    assert (name, path["kept"], path["steps"]) == (
        "team/app",
        "grace",
        [{"kind": "blob", "name": str(UNUSED)}],
    )


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (str(UNKNOWN), f"blob unknown to registry: {UNKNOWN}"),
        (f"team/app@{UNKNOWN}", f"blob unknown to registry: {UNKNOWN}"),
        (f"other@{LAYER}", f"blob unknown to registry: {LAYER}"),
        ("team/app:2", "there is no tag 2 in team/app"),
        ("team/app", "not a digest, REPOSITORY:TAG or REPOSITORY@DIGEST"),
    ],
)
def test_what_there_is_not(data: Path, reference: str, message: str) -> None:
    """An error names what is unknown."""
    result = why(data, reference)
    assert result.exit_code == 1
    assert message in result.stderr
