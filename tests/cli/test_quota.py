"""``dualreg quota``, as an operator types it, and quotas after a loss of the catalog, a copy and a repair."""

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

APP = RepositoryName("team/app")


def run(data: Path, line: str, code: int = 0) -> str:
    """Run a command over a registry; return what it prints."""
    result = unannounced(
        CliRunner().invoke(main, [*line.split(), "--data", str(data)], env={"DUALREG_CONFIG": None})
    )
    assert result.exit_code == code, result.output
    return result.output


def listed(data: Path) -> list[object]:
    """Return the quotas."""
    found: list[object] = json.loads(run(data, "quota list --json"))
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A registry with two blobs, in a file."""
    data = tmp_path / "data"
    settings = Settings(data=data, database=f"sqlite:///{data}/catalog.sqlite3", audit="off")
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        for size in (10, 200):
            registry.uploads.ingest(APP, [bytes(size)])
    return data


@pytest.mark.slow
@pytest.mark.sqlite
def test_quotas_are_managed(data: Path) -> None:
    """Each command says what it did; what is wrong is one line."""
    assert "dualreg quota set" in run(data, "quota list")
    assert run(data, "quota set team/* 1k --soft 500") == "team/* may have 1024 bytes; 210 are used.\n"
    assert listed(data) == [{"pattern": "team/*", "size": 1024, "soft": 500, "used": 210}]
    assert run(data, "quota list").splitlines() == [
        "PATTERN  SIZE  SOFT  USED",
        "team/*   1024  500   210",
        "1 quota.",
    ]
    assert "until images are deleted" in run(data, "quota set team/* 100")
    assert listed(data) == [{"pattern": "team/*", "size": 100, "soft": None, "used": 210}]
    assert "above the limit" in run(data, "quota set team/* 1k --soft 2k", code=1)
    assert "expected a number of bytes" in run(data, "quota set team/* many", code=1)
    assert run(data, "quota remove team/*") == "Removed the quota of team/*.\n"
    assert "quota list" in run(data, "quota remove team/*", code=1)


@pytest.mark.slow
@pytest.mark.sqlite
def test_quotas_outlive_the_catalog(data: Path, tmp_path: Path) -> None:
    """A rebuild counts them again; a copy of the catalog has what was counted; fsck repairs that."""
    run(data, "quota set team/* 1k")
    before = listed(data)
    for file in data.glob("catalog.sqlite3*"):
        file.unlink()
    run(data, "db rebuild")
    assert listed(data) == before
    settings = Settings(data=data, database=f"sqlite:///{data}/catalog.sqlite3", audit="off")
    with closing(open_registry(settings)) as registry:
        with registry.state.catalog.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE quota_usage SET bytes = bytes + 1")
        registry.uploads.ingest(APP, [b"more"])
    assert "wrong-quota" in run(data, "fsck", code=1)
    assert "wrong-quota" in run(data, "fsck --repair")
    assert [each["used"] for each in listed(data)] == [214]  # type: ignore[index]  # from JSON
    run(data, "readonly on --reason copy")
    run(data, f"db copy sqlite:///{tmp_path}/copy.sqlite3")
    with closing(
        open_registry(settings.model_copy(update={"database": f"sqlite:///{tmp_path}/copy.sqlite3"}))
    ) as copy:
        assert [each.used for each in copy.quotas.list()] == [214]
