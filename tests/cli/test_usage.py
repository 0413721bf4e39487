"""``dualreg usage``, as an operator types it."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_registry, prepare
from dualreg.cli import main
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import usage
from dualreg.settings import Settings
from tests import builders
from tests.programs import unannounced
from tests.properties.registries import push_v1, push_v2


def run(data: Path, line: str, code: int = 0, *, command: str = "usage") -> str:
    """Run the command over a registry; return what it prints."""
    words = [*command.split(), *line.split(), "--data", str(data)]
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


@pytest.mark.slow
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
    assert json.loads(run(data, "--depth 0 --json")) == {
        "blobs": 3,
        "bytes": 3210,
        "garbage": 0,
        "deleted": 0,
    }
    assert run(data, "--depth 0").startswith("3 blobs (0.0 MiB)")
    assert run(data, "nothing*") == ""
    assert "not supported" in run(data, "team/?", code=1)


def test_large_namespaces_are_left_out(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If only what takes no time is wanted."""
    assert run(data, "--depth 1 --brief") == run(data, "--depth 1")
    assert run(data, "--depth 1 --brief --json") == run(data, "--depth 1 --json")
    monkeypatch.setattr(usage, "BRIEF_LIMIT", 1)
    assert [line.split()[:3] for line in run(data, "--depth 1 --brief").splitlines()] == [
        ["NAMESPACE", "BLOBS", "BYTES"],
        ["team", "many", "-"],
        ["x", "1", "3000"],
    ]
    first, *_ = run(data, "--depth 1 --brief --json").splitlines()
    assert json.loads(first) == {"name": "team", "blobs": None, "bytes": None, "own": None, "shared": None}
    assert "--brief is for namespaces" in run(data, "--brief", code=2)


@pytest.mark.slow
def test_repositories_are_listed(data: Path) -> None:
    """With sizes, tags and their origins; of all or of some, on pages, as a table and as JSON."""
    image = builders.image(builders.layer({"a": b"a"}))
    with closing(open_registry(Settings(data=data, audit="off"))) as registry:
        push_v2(registry, RepositoryName("team/app"), Tag("1"), image)
        push_v1(registry, RepositoryName("team/app"), Tag("2"), builders.v1_chain(image.layers[0]))
        pushed = registry.tags.describe(RepositoryName("team/app"), limit=9, reader=None).rows[-1].pushed_at
    lines = run(data, "", command="repository list").splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAGS", "BYTES", "OWN", "SHARED", "PUSHED", "PULLED", "ORIGIN"]
    assert lines[1].split()[:2] == ["team/app", "2"]
    assert lines[1].endswith(f"{pushed:%Y-%m-%d %H:%M} UTC  never   v1, v2")
    assert lines[2].split() == ["team/web", "0", "200", "0", "200", "never", "never", "-"]
    assert lines[4:] == ["3 repositories."]
    (row,) = map(json.loads, run(data, "*/app --json", command="repository list").splitlines())
    usage = json.loads(run(data, "*/app --json"))
    assert {name: row[name] for name in usage} == usage
    assert row["pushed_at"] == pushed.isoformat()
    assert (row["tags"], row["origins"], row["pulled_at"]) == (2, ["v1", "v2"], None)
    for line, names in (
        ("--limit 2", ["team/app", "team/web"]),
        ("--after team/app", ["team/web", "x"]),
        ("--after team/app --limit 1", ["team/web"]),
        ("none*", []),
        ("--search EAM/", ["team/app", "team/web"]),
        ("*web --search team", ["team/web"]),
    ):
        found = run(data, f"{line} --json", command="repository list").splitlines()
        assert [json.loads(each)["name"] for each in found] == names
    (row,) = map(json.loads, run(data, "--search p:2 --json", command="repository list").splitlines())
    assert (row["name"], row["tag"]) == ("team/app", "2")
    assert run(data, "--search :1", command="repository list").splitlines()[1].startswith("team/app:1  2 ")
    assert "not supported" in run(data, "team/?", code=1, command="repository list")


def test_the_origin_of_loaded_content_is_its_upstream(data: Path) -> None:
    """Whatever its tags say."""
    with (
        closing(open_registry(Settings(data=data, audit="off"))) as registry,
        registry.state.catalog.begin() as tx,
    ):
        tx.repositories.record_upstream(tx.repositories.find(RepositoryName("x")).id, "https://hub.example")
    assert json.loads(run(data, "x --json", command="repository list"))["origins"] == ["https://hub.example"]
