"""``python -m tests.benchmarks.large_store``: how fast a large store is rebuilt, checked and backed up.

Layers and configs are tiny files: what is measured is the work for each name and file, not that for bytes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.tree import Tree
from tests.programs import DUALREG, environment

#: What is measured, in this order; each is a command of dualreg, ``{data}`` is the folder of the store.
COMMANDS: Mapping[str, str] = {
    "db rebuild": "db rebuild --data {data}",
    "fsck": "fsck --data {data}",
    "fsck --read": "fsck --read --data {data}",
    "backup": "backup {data}.backup --data {data}",
    "backup, nothing new": "backup {data}.backup --data {data}",
    "backup --copy": "backup --copy {data}.copy --data {data}",
    "restore": "restore {data}.backup --data {data}.restored",
}


def main() -> None:
    """Build a store without a catalog, rebuild that, check both, back them up and restore them."""
    options = _options()
    with ExitStack() as stack:
        data = options.data or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="dualreg-bench-", dir=options.folder)),
            "data",
        )
        links = _build(data, options.links)
        settings = {"DUALREG_DATABASE": options.database, "DUALREG_AUDIT": "off"}
        for folder in data.parent.glob(f"{data.name}.*/"):
            shutil.rmtree(folder)
        for title, command in COMMANDS.items():
            used = _measure(["nice", DUALREG, *command.format(data=data).split()], settings)
            sys.stdout.write(f"{title}: {links / used.elapsed:,.0f} links/s in {used.elapsed:,.0f} s, ")
            sys.stdout.write(f"{used.processor:,.0f} s of a processor, {used.memory:,.0f} MiB\n")
        size = sum(path.stat().st_size for path in data.glob("catalog.sqlite3*"))
        sys.stdout.write(f"catalog: {size / 1e6:,.0f} MB\n")


def _build(data: Path, wanted: int) -> int:
    """Write a store of at least *wanted* link files, unless it is there; return how many it has."""
    count = data.with_suffix(".links")
    if count.exists():
        for file in data.glob("catalog.sqlite3*"):
            file.unlink()
        return int(count.read_text())
    began, number = time.monotonic(), 0
    tree = Tree(str(data / "docker/registry/v2"))
    while tree.links < wanted:
        tree.repository(number)
        number += 1
    count.write_text(str(tree.links))
    sys.stdout.write(f"{tree.links:,} links in {number:,} repositories, {time.monotonic() - began:,.0f} s\n")
    return tree.links


class _Used(NamedTuple):
    """Seconds that passed, those of a processor, and the most memory, in MiB."""

    elapsed: float
    processor: float
    memory: float


def _measure(line: list[str | Path], settings: dict[str, str]) -> _Used:
    """Run a command, and return what it used."""
    began = time.monotonic()
    with subprocess.Popen(line, env=environment() | settings, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{line} exited with {process.returncode}")
    return _Used(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.large_store", description=main.__doc__)
    parser.add_argument(
        "--links", type=int, default=20_000, help="how many names there are; default: %(default)s"
    )
    parser.add_argument("--database", default="", help="URL of an empty database; default: SQLite")
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="keep the store there, and use it again if it is there"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
