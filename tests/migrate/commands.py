"""The commands, run over data folders, and what is in those afterwards."""

import itertools
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from dualreg.cli import main


def command(data: Path, line: str, *more: str, code: int | None = 0) -> Result:
    """Run a migration command over the data folder; it must end as *code* says."""
    arguments = ["migrate", *line.split(), *more, "--data", str(data)]
    result = CliRunner().invoke(main, arguments, env={"DUALREG_CONFIG": None}, catch_exceptions=False)
    assert code is None or result.exit_code == code, result.output
    return result


def snapshot(folder: Path) -> Mapping[str, object]:
    """Return every file of a folder, with its content and dates."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def content(data: Path) -> Mapping[str, bytes]:
    """Return every blob and link of ours."""
    return {
        str(path.relative_to(data)): path.read_bytes()
        for path in sorted((data / "docker").rglob("*"))
        if path.is_file()
    }


#: Runs a command, and kills itself at the journal line of that number.
_KILLED = """
import os, signal, sys
from dualreg.catalog.rows import Origin
from dualreg.cli import main
from dualreg.migrate.journal import Journal
number, when, write, seen = int(sys.argv.pop(1)), sys.argv.pop(1), Journal.write, 0
def killing(self, *given, **facts):
    global seen
    seen += 1
    if seen == number and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, *given, **facts)
    if seen == number:
        os.kill(os.getpid(), signal.SIGKILL)
Journal.write = killing
main()
"""


def killed_at_every_step(source: str, folder: Path) -> int:
    """Kill a run over *source* before and after each line of its journal; return how often.

    Run again, what comes of it is what an undisturbed run makes; and it can be taken out whole.
    """
    command(folder / "undisturbed", f"run {source}")
    steps = 0
    for number in itertools.count(1):
        for when in ("before", "after"):
            own = folder / f"{number}-{when}"
            line = [sys.executable, "-c", _KILLED, str(number), when, "migrate", "run", source]
            code = subprocess.run(
                [*line, "--jobs", "1", "--data", own], check=False, capture_output=True
            ).returncode
            if code == 0:
                return steps
            assert code == -signal.SIGKILL
            steps += 1
            command(own, f"run {source}")
            assert content(own) == content(folder / "undisturbed")
            assert command(own, f"verify {source}").exit_code == 0
            for run in sorted((path.stem for path in (own / "migrations").glob("*.jsonl")), reverse=True):
                command(own, f"rollback {run}")
            assert content(own) == {}
    raise AssertionError
