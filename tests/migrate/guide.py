"""The examples of docs/migrate.md, run: ``python -m tests.migrate.guide`` writes what they print into it.

Paths of the examples are below a folder; runs get names as if they were started at fixed times.
"""

import gzip
import os
import random
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from itertools import count
from pathlib import Path
from unittest.mock import patch

from click.testing import CliRunner

from dualreg.cli import main
from tests import builders
from tests.migrate.trees import Tree
from tests.programs import unannounced

GUIDE = Path(__file__).parents[2] / "docs" / "migrate.md"
NAMES = "Team/Legacy team/legacy\n"

_PART = re.compile(r"^(#+ .+|```console\n(?:.*\n)*?```)$", re.MULTILINE)
_ROOTS = ("/srv", "/var/lib")
_RUN = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)\.\d{6}-4711")
#: A run at a fixed time, and the time at which it was really started, which several runs may share.
_STARTED = re.compile(rf"({_RUN.pattern} +)\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d")
_PROGRESS = re.compile(r"\d+ of \d+ (tags|layers)(, .*)?")


def build(root: Path) -> None:
    """Make the old registry of the examples."""
    tree = Tree(root / "srv" / "old-registry")
    base = tree.image("base", _layer("base", 400_000))
    tree.tag(
        "library/busybox",
        "latest",
        tree.image("busybox", _layer("busybox", 60_000), parent=base),
        1_390_000_000,
    )
    libraries = tree.image("libraries", _layer("libraries", 250_000), parent=base)
    first = tree.image("app 1.0", _layer("app 1.0", 90_000), parent=libraries)
    second = tree.image("app 1.1", _layer("app 1.1", 95_000), parent=libraries)
    tree.tag("team/app", "1.0", first, 1_400_000_000)
    tree.tag("team/app", "1.1", second, 1_420_000_000)
    tree.tag("team/app", "latest", second, 1_420_000_060)
    cut = _layer("tool", 50_000)[:-1000]
    tree.tag("team/tool", "1", tree.image("tool", cut, parent=base, checksum=None), 1_410_000_000)
    tree.tag("team/web", "2", tree.image("web", None, parent=base, marked=True), 1_430_000_000)
    tree.tag("Team/Legacy", "1", first, 1_400_000_100)
    tree.image("untagged", _layer("untagged", 30_000), parent=base)
    (root / "names.txt").write_text(NAMES)


def _layer(name: str, size: int) -> bytes:
    """Return a layer of equal bytes wherever it is made: none of them is compressed."""
    archive = builders.tar({f"usr/{name}": random.Random(name).randbytes(size)})  # noqa: S311
    return gzip.compress(archive, compresslevel=0, mtime=0)


def play(text: str, root: Path) -> str:
    """Return the guide with what its commands print now."""
    build(root)
    before: Mapping[str, Callable[[], object]] = {
        "## Import in place": lambda: _run(f"export registry-tree:{root}/var/lib/registry"),
        "## Export": lambda: _run(f"migrate run v1-tree:{root}/srv/old-registry"),
    }
    runs = dict[str, str]()
    numbers = count(1)

    def fill(part: re.Match[str]) -> str:
        if not part[0].startswith("```"):
            before.get(part[0], lambda: None)()
            return part[0]
        commands = [line for line in part[0].splitlines() if line.startswith("$ ")]
        shown = "\n".join(line for command in commands for line in (command, *_output(command[2:], root)))
        for run in _RUN.finditer(shown):
            if run[0] not in runs:
                runs[run[0]] = f"20261128T22{next(numbers):02}00.000000-4711"
        for real, fixed in runs.items():
            shown = shown.replace(real, fixed)
        shown = _STARTED.sub(r"\1\2-\3-\4T\5:\6:\7", shown)
        return f"```console\n{shown}\n```"

    (root / "var" / "lib").mkdir(parents=True)
    with chdir(root), patch.object(os, "getpid", return_value=4711):
        return _PART.sub(fill, text)


def _output(command: str, root: Path) -> Iterator[str]:
    for place in _ROOTS:
        command = command.replace(f"{place}/", f"{root}{place}/")
    program, *arguments = shlex.split(command)
    match program:
        case "dualreg":
            text = _run(shlex.join(arguments))
        case "cat":
            text = Path(arguments[0]).read_text()
        case "head":
            text = "\n".join(Path(arguments[-1]).read_text().splitlines()[: int(arguments[1])])
        case _:
            raise ValueError(command)
    for line in text.replace("SOURCE" + " " * len(str(root)), "SOURCE").splitlines():
        if not _PROGRESS.fullmatch(line):
            yield line.replace(str(root), "").rstrip()


def _run(line: str) -> str:
    """Return what a command prints; of tags one at a time, so that they are always in the same order."""
    jobs = ["--jobs", "1"] if line.startswith(("migrate run", "migrate verify", "export")) else []
    arguments = [*shlex.split(line), *jobs]
    result = CliRunner().invoke(main, arguments, env={"DUALREG_CONFIG": None}, catch_exceptions=False)
    return unannounced(result).output


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GUIDE.write_text(play(GUIDE.read_text(encoding="utf-8"), Path(folder)), encoding="utf-8")
