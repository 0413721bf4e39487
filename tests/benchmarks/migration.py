"""``python -m tests.benchmarks.migration``: how fast an old registry's tree of small images comes in.

Every image has a layer of its own, so that what is measured is what an image costs, not what bytes do. With
``--in-place``, the tree is one of the reference registry, and its own folder gets the catalog.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests import builders
from tests.migrate.stock_trees import StockTree
from tests.migrate.trees import Tree
from tests.programs import DUALREG, environment

#: Images that stand on each other under each tag.
_DEPTH = 10
#: Tags of a repository in a tree of the reference registry.
_TAGS = 50


def main() -> None:
    """Build the tree, and run every command over it."""
    options = _options()
    (_in_place if options.in_place else _v1)(options)


def _in_place(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="dualreg-bench-", dir=options.folder) as folder:
        tree = StockTree(Path(folder))
        for number in range(options.images):
            image = builders.image(builders.layer({"a": f"{number}".encode()}))
            tree.image(f"team/app{number // _TAGS}", image, f"{number}")
        source = f"registry-tree:{folder}"
        for title in ("inspect", "run", "verify --quick", "verify"):
            command, *more = title.split()
            _print(title, options.images, "tags", (command, source, "--data", folder, *more))


def _v1(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="dualreg-bench-", dir=options.folder) as folder:
        root, data = Path(folder) / "old", Path(folder) / "data"
        _build(root, options.images // _DEPTH)
        images, source = options.images // _DEPTH * _DEPTH, f"v1-tree:{root}"
        before = _own_bytes(root)
        for title, line in (
            ("inspect", ("inspect", source)),
            ("run --link hard", ("run", source, "--data", data, "--link", "hard")),
            ("run again", ("run", source, "--data", data)),
            ("verify --quick", ("verify", source, "--data", data, "--quick")),
            ("verify", ("verify", source, "--data", data)),
        ):
            _print(title, images, "images", line)
        layers = sum(path.stat().st_size for path in root.glob("images/*/layer"))
        sys.stdout.write(
            f"{images} images, {layers:,} bytes of layers; the source is {before - _own_bytes(root):,} bytes"
            f" smaller where it shares files now, ours has {_own_bytes(data):,} bytes of its own\n"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.migration", description=main.__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--in-place", action="store_true", help="import a registry tree in place instead")
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    return parser.parse_args()


def _build(root: Path, chains: int) -> None:
    tree = Tree(root)
    for chain in range(chains):
        parent: str | None = None
        for number in range(_DEPTH):
            seed = f"{chain}-{number}"
            parent = tree.image(seed, builders.layer({seed: seed.encode() * 50}), parent=parent)
        tree.tag(f"team{chain % 20}/app{chain}", "1", str(parent))


def _print(title: str, count: int, noun: str, line: tuple[str | Path, ...]) -> None:
    """Run a command, and print how long it took, how long a processor worked for it, and its memory."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [DUALREG, "migrate", *line], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds, process.returncode = time.perf_counter() - began, os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    worked, memory = used.ru_utime + used.ru_stime, used.ru_maxrss >> 10
    sys.stdout.write(
        f"{title:16} {seconds:8.1f} s {count / seconds:10,.0f} {noun}/s"
        f" {worked:8.1f} s of a processor {memory:6} MiB\n"
    )


def _own_bytes(folder: Path) -> int:
    """Return the bytes of files that are nowhere else."""
    return sum(stat.st_size for stat in _stats(folder) if stat.st_nlink == 1)


def _stats(folder: Path) -> Iterator[os.stat_result]:
    return (path.stat() for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
