"""``dualreg audit``, as an operator types it."""

import json
import os
import re
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.assembly import prepare
from dualreg.cli import main
from dualreg.settings import Settings
from tests.programs import unannounced


def run(data: Path, line: str, code: int = 0, *, audit: str = "") -> str:
    """Run a command over a registry; return what it prints."""
    env = {"DUALREG_CONFIG": None, "DUALREG_AUDIT": audit or None}
    result = unannounced(CliRunner().invoke(main, [*line.split(), "--data", str(data)], env=env))
    assert result.exit_code == code, result.output
    return result.output


def test_audit(tmp_path: Path) -> None:
    """Commands, the newest first, as a table and as JSON; damaged lines are counted."""
    prepare(Settings(data=tmp_path))
    for line in ("account add ci --robot", "immutable add team/*:v*", "access grant ci team/* pull"):
        run(tmp_path, line)
    with (tmp_path / "audit.jsonl").open("a") as file:
        file.write("damage\n")
    found = run(tmp_path, "audit --action immutable")
    place = f"1 line of the audit log of {socket.gethostname()}."
    cells = [re.split(r"  +", line) for line in found.splitlines()]
    assert cells[0] == ["AT", "EVENT", "WHO", "ADDRESS", "WHAT", "ON", "STATUS"]
    assert cells[1][1:] == ["admin", f"uid {os.getuid()}", "-", "immutable add", "team/*:v*", "-"]
    assert cells[2] == [place]
    assert "1 line of the log cannot be read." in found
    lines = [json.loads(line) for line in run(tmp_path, "audit --json --limit 2").splitlines()[:2]]
    assert [line["command"] for line in lines] == ["access grant", "immutable add"]
    assert lines[0].keys() == {"time", "event", "command", "uid", "who", "pattern", "actions"}
    assert run(tmp_path, "audit team/*").startswith("0 lines")


@pytest.mark.parametrize(
    ("line", "audit", "said"),
    [
        ("audit", "off", "there is no audit log"),
        ("audit", "-", "read it where that is collected"),
        ("audit a?", "", "only * is special"),
        ("audit --since x", "", "x is not a time"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, line: str, audit: str, said: str) -> None:
    """In one line."""
    prepare(Settings(data=tmp_path))
    found = run(tmp_path, line, 1, audit=audit)
    assert said in found
    assert found.count("\n") == 1
