"""``dualreg status``, as an operator types it."""

import json
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner

from dualreg.assembly import open_registry, prepare
from dualreg.cli import main
from dualreg.settings import Settings
from tests.programs import unannounced


def run(data: Path, line: str = "status", *, code: int = 0) -> str:
    """Run a command over a registry; return its standard output."""
    env = {"DUALREG_CONFIG": None, "DUALREG_AUDIT": "off"}
    result = unannounced(CliRunner().invoke(main, [*line.split(), "--data", str(data)], env=env))
    assert (result.exit_code, "Traceback" in result.output) == (code, False), result.output
    return result.stdout


def test_the_state_of_a_registry(tmp_path: Path) -> None:
    """Whether it works, by trying, whether it may be changed, and how much room there is."""
    settings = Settings(data=tmp_path, audit="off")
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        assert registry.health.failures() == {}
    lines = run(tmp_path).splitlines()
    assert lines[0].startswith("dualreg ")
    assert lines[1] == "The catalog and the store can be read and written."
    assert lines[2].startswith("The catalog is ")
    assert "are free on the disk; pushes may use" in lines[3]
    found = json.loads(run(tmp_path, "status --json"))
    assert (found["failures"], found["readonly"], found["damaged"], found["since"]) == ({}, None, 0, None)
    assert found["catalog_bytes"] > 0
    assert found["free"] > found["room"] > 0
    run(tmp_path, "readonly on --reason moving")
    assert "The registry is read-only: moving" in run(tmp_path)
    uploads = tmp_path / "uploads"
    for each in uploads.iterdir() if uploads.exists() else ():
        each.unlink()
    if uploads.exists():
        uploads.rmdir()
    uploads.touch()  # where a folder has to be
    assert "storage fails: " in run(tmp_path, code=1)
    assert json.loads(run(tmp_path, "status --json", code=1))["failures"].keys() == {"storage"}
