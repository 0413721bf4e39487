"""``dualreg usage``, as an operator types it."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_registry, prepare
from dualreg.cli import main
from dualreg.image.names import RepositoryName
from dualreg.settings import Settings
from tests.programs import unannounced


def run(data: Path, line: str, code: int = 0) -> str:
    """Run the command over a registry; return what it prints."""
    words = ["usage", *line.split(), "--data", str(data)]
    result = unannounced(CliRunner().invoke(main, words, env={"DUALREG_CONFIG": None}))
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A registry with three repositories, two of which share a blob."""
    settings = Settings(data=tmp_path, audit="off")
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        for name, size in (("team/app", 10), ("team/app", 200), ("team/web", 200), ("x", 3000)):
            registry.uploads.ingest(RepositoryName(name), [bytes(size)])
    return tmp_path


def test_usage(data: Path) -> None:
    """By repository and by namespace, of all or of some, as a table, as JSON, and in parts."""
    assert run(data, "").splitlines() == [
        "REPOSITORY  BLOBS  BYTES  OWN   SHARED",
        "team/app    2      210    10    200",
        "team/web    1      200    0     200",
        "x           1      3000   3000  0",
    ]
    lines = [json.loads(line) for line in run(data, "--depth 1 --json").splitlines()]
    assert lines == [
        {"name": "team", "blobs": 2, "bytes": 210, "own": 210, "shared": 0},
        {"name": "x", "blobs": 1, "bytes": 3000, "own": 3000, "shared": 0},
    ]
    assert [json.loads(line)["name"] for line in run(data, "*/w* --json").splitlines()] == ["team/web"]
    assert [
        json.loads(line)["name"] for line in run(data, "--limit 1 --after team/app --json").splitlines()
    ] == ["team/web"]
    assert json.loads(run(data, "--depth 0 --json")) == {"blobs": 3, "bytes": 3210, "garbage": 0}
    assert run(data, "--depth 0").startswith("3 blobs (0.0 MiB)")
    assert run(data, "nothing*") == ""
    assert "not supported" in run(data, "team/?", code=1)
