"""The command itself: what it loads, and how its help is laid out."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.cli import main

HEAVY = ("flask", "gunicorn", "sqlalchemy", "alembic", "rich", "pydantic", "urllib3", "dualreg.registry")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "absent"),
    [
        ("--version", HEAVY),
        ("--help", HEAVY),
        ("serve --help", ("dualreg.cli.progress",)),
        ("migrate run --help", ("flask", "gunicorn", "structlog", "rich")),
        ("config show", ("flask", "gunicorn", "sqlalchemy", "dualreg.registry")),
    ],
)
def test_a_command_loads_what_it_needs(tmp_path: Path, line: str, absent: tuple[str, ...]) -> None:
    """A command does not pay for the libraries of the others."""
    program = f"import sys; from dualreg.cli import main; main({line.split()}, standalone_mode=False)"
    program += f"; sys.exit([name for name in {absent} if name in sys.modules] or 0)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )
    announced = f"Registry: {tmp_path}/dualreg-data (default)\n" if line == "config show" else ""
    assert (done.returncode, done.stderr) == (0, announced)


def test_options_are_in_reading_order() -> None:
    """Under headings, the source first; what every command has comes last."""
    text = CliRunner().invoke(main, ["migrate", "run", "--help"]).output
    assert re.findall(r"^(\w+):$", text, re.MULTILINE) == [
        "Source",
        "Selection",
        "Names",
        "Import",
        "Options",
    ]
    options = re.findall(r"^  (--[\w-]+|-h)", text, re.MULTILINE)
    assert options[:2] == ["--flavor", "--repository"]
    assert options.index("--include") < options.index("--exclude") < options.index("--map")
    assert options[-5:] == ["--dry-run", "--json", "--data", "--config", "-h"]
    assert "--parent" not in text


def test_an_unknown_command() -> None:
    """It ends with 2."""
    result = CliRunner().invoke(main, ["migrat"])
    assert result.exit_code == 2
    assert "No such command 'migrat'" in result.output
