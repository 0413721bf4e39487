"""Helpers that run commands over data directories and read what these contain afterwards."""

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from click.testing import CliRunner, Result

from dualreg.cli import main
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.sources.v1_files import decode
from tests.migrate.trees import Expected
from tests.programs import unannounced

_ENVIRONMENT = {"DUALREG_CONFIG": None}


def command(data: Path, line: str, *more: str, code: int | None = 0) -> Result:
    """Run a migration command over the data folder; it must exit with *code*, unless that is None."""
    arguments = ["migrate", *line.split(), *more, "--data", str(data)]
    result = unannounced(CliRunner().invoke(main, arguments, env=_ENVIRONMENT, catch_exceptions=False))
    assert code is None or result.exit_code == code, result.output
    return result


def source(expected: Expected) -> str:
    """Return the location of the tree."""
    return f"v1-tree:{expected.tree.root}"


def here(tag: str) -> tuple[RepositoryName, Tag]:
    """Return the name of a source's tag in this registry, without ``library/``."""
    repository, _, name = tag.rpartition(":")
    return RepositoryName(decode(repository).removeprefix("library/")), Tag(decode(name))


def named(tag: str) -> str:
    """Return the name of a source's tag as clients know it."""
    repository, _, name = tag.rpartition(":")
    return f"{decode(repository)}:{decode(name)}"


def export(data: Path, line: str, code: int | None = 0) -> Result:
    """Run ``dualreg export`` over the data folder; it must exit with *code*, unless that is None."""
    arguments = ["export", *line.split(), "--data", str(data)]
    result = unannounced(CliRunner().invoke(main, arguments, env=_ENVIRONMENT, catch_exceptions=False))
    assert code is None or result.exit_code == code, result.output
    return result


def snapshot(folder: Path) -> Mapping[str, object]:
    """Return every file of a folder, with its content, time and mode."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def content(data: Path) -> Mapping[str, bytes]:
    """Return every blob and link of this registry."""
    return {
        str(path.relative_to(data)): path.read_bytes()
        for path in sorted((data / "docker").rglob("*"))
        if path.is_file()
    }


#: Runs commands, each in a process of its own that kills itself at a step; says how it ended.
_KILLER = """
import gc, json, os, signal, sys
from tests import quick
quick.install()
from click.testing import CliRunner
from dualreg.cli import main
from dualreg.migrate.journal import Journal
CliRunner().invoke(main, json.loads(sys.argv[2]), catch_exceptions=False)  # what it compiles, children have
gc.collect()
gc.freeze()
of, name = {"journal": (Journal, "write_all"), "disk": (os, "fsync")}[sys.argv[1]]
step = getattr(of, name)
for line in sys.stdin:
    number, when, arguments = json.loads(line)
    child = os.fork()
    if not child:
        seen = 0
        def killing(*given, **facts):
            global seen
            seen += 1
            if seen == number and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            step(*given, **facts)
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
        setattr(of, name, killing)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        main(arguments)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def killed_at_every_step(source: str, folder: Path, step: str, stride: int = 1) -> int:
    """Kill a run before and after its steps; return how many kills there were.

    After each, another run must make the same as an undisturbed one, and a rollback must remove all of it.

    Args:
        step: ``journal``: a line of it; ``disk``: a wait for the disk.
        stride: Kill at every step of this number only.
    """
    command(folder / "undisturbed", f"run {source}")
    whole, steps = content(folder / "undisturbed"), 0
    for own in killed_each_time(step, folder, partial(_run, source), stride):
        steps += 1
        _goes_on(source, own, whole)
    return steps


def killed_each_time(
    step: str, folder: Path, arguments: Callable[[Path], list[str]], stride: int = 1
) -> Iterator[Path]:
    """Kill a command before and after its steps, and yield the path that it got, until one is not killed.

    Args:
        step, stride: As of ``killed_at_every_step``.
        arguments: Returns those of the command for a path below *folder*.
    """
    with subprocess.Popen(
        [sys.executable, "-c", _KILLER, step, json.dumps(arguments(folder / "before"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as killer:
        assert killer.stdin
        assert killer.stdout
        for number in itertools.count(1, stride):
            for when in ("before", "after"):
                own = folder / f"{number}-{when}"
                killer.stdin.write(json.dumps([number, when, arguments(own)]) + "\n")
                killer.stdin.flush()
                code = int(killer.stdout.readline())
                if code == 0:
                    return
                assert code == -signal.SIGKILL
                yield own


def _run(source: str, data: Path) -> list[str]:
    return ["migrate", "run", source, "--jobs", "1", "--data", str(data)]


def _goes_on(source: str, data: Path, whole: Mapping[str, bytes]) -> None:
    command(data, f"run {source}")
    differing = sorted(path for path, _ in whole.items() ^ content(data).items())
    assert differing == [], differing
    for run in sorted((path.stem for path in (data / "migrations").glob("*.jsonl")), reverse=True):
        command(data, f"rollback {run}")
    assert content(data) == {}
