"""``dualreg immutable``, as an operator types it, and rules after a loss of the catalog."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_registry, prepare
from dualreg.auth.sealed import NAME
from dualreg.cli import main
from dualreg.image.names import RepositoryName, Tag
from dualreg.settings import Settings
from tests import builders
from tests.programs import unannounced
from tests.properties.registries import push_v2

APP, V1 = RepositoryName("team/app"), Tag("v1")


def run(data: Path, line: str, code: int = 0) -> str:
    """Run a command over a registry; return what it prints."""
    result = unannounced(
        CliRunner().invoke(main, [*line.split(), "--data", str(data)], env={"DUALREG_CONFIG": None})
    )
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A registry with two tags, in a file."""
    settings = Settings(data=tmp_path, database=f"sqlite:///{tmp_path}/catalog.sqlite3", audit="off")
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        push_v2(registry, APP, V1, builders.image(builders.layer({"a": b"1"})))
        push_v2(registry, APP, Tag("latest"), builders.image(builders.layer({"a": b"2"})))
    return tmp_path


@pytest.mark.slow
@pytest.mark.sqlite
def test_rules_are_managed(data: Path) -> None:
    """Each command says what it did; what is wrong is one line."""
    assert "dualreg immutable add" in run(data, "immutable list")
    assert run(data, "immutable add team/*:v*") == "Tags that match team/*:v* are immutable.\n"
    assert run(data, "immutable add team/*:v*").startswith("There is such a rule")
    assert "1 rule." in run(data, "immutable list")
    assert [each["pattern"] for each in json.loads(run(data, "immutable list --json"))] == ["team/*:v*"]
    assert run(data, "immutable explain team/app:v1") == "yes: by the rule team/*:v*\n"
    assert run(data, "immutable explain team/app:latest") == "no: no rule matches it\n"
    explained = json.loads(run(data, "immutable explain team/app:v1 --json"))
    assert explained == {"immutable": True, "rule": "team/*:v*"}
    assert "invalid pattern" in run(data, "immutable add team/app", code=1)
    assert "invalid" in run(data, "immutable explain team/app", code=1)
    assert run(data, "immutable remove team/*:v*") == "Removed the rule team/*:v*.\n"
    assert "immutable list" in run(data, "immutable remove team/*:v*", code=1)


@pytest.mark.slow
@pytest.mark.sqlite
def test_a_repository_is_deleted_by_force(data: Path) -> None:
    """Without it, nothing is, and a dry run says so."""
    run(data, "immutable add team/*:v*")
    for option in ("", " --dry-run"):
        assert "team/app:v1 cannot be" in run(data, f"repository delete team/app{option}", code=1)
    assert "2 tags" in run(data, "repository show team/app")
    assert "Would delete" in run(data, "repository delete team/app --force --dry-run")
    assert run(data, "repository delete team/app --force") == "Deleted team/app with 2 tags.\n"


@pytest.mark.slow
@pytest.mark.sqlite
def test_rules_outlive_the_catalog(data: Path) -> None:
    """A rebuild has them; a copy that a former version wrote has none."""
    run(data, "immutable add team/*:v*")
    copy = json.loads((data / NAME).read_text())
    for file in data.glob("catalog.sqlite3*"):
        file.unlink()
    run(data, "db rebuild")
    assert "yes" in run(data, "immutable explain team/app:v1")
    del copy["tables"]["immutable_tags"]
    (data / NAME).write_text(json.dumps(copy))
    for file in data.glob("catalog.sqlite3*"):
        file.unlink()
    run(data, "db rebuild")
    assert "no: " in run(data, "immutable explain team/app:v1")
