"""``python -m tests.benchmarks.migration``: how fast an old registry's tree of small images comes in.

Every image has a layer of its own, so that what is measured is what an image costs, not what bytes do. With
``--in-place``, the tree is one of the reference registry, and its own folder gets the catalog; with
``--export``, its tags then go to other places.
"""

import argparse
import json
import os
import shutil
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
#: Targets of exports, with their options.
_EXPORTS = (
    ("registry-tree", ("--link", "hard")),
    ("registry-tree", ()),
    ("oci-layout", ()),
    ("static-tree", ()),
)
#: Runs a command, and prints its exit status, the seconds that a processor worked for it, and the memory of
#: its process, or of the largest that it started, in KiB. It is small itself: to a command belongs the memory
#: of the process that started it.
_MEASURED = """
import json, resource, subprocess, sys
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
status, used = subprocess.call(sys.argv[1:], **quiet), resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([status, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""


def main() -> None:
    """Build the tree, and run every command over it."""
    options = _options()
    (_export if options.export else _in_place if options.in_place else _v1)(options)


def _in_place(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="dualreg-bench-", dir=options.folder) as folder:
        source = _build_tags(Path(folder), options.images)
        for title in ("inspect", "run", "verify --quick", "verify"):
            command, *more = title.split()
            _print(title, options.images, "tags", ("migrate", command, source, "--data", folder, *more))


def _export(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="dualreg-bench-", dir=options.folder) as folder:
        data, place = f"{folder}/data", f"{folder}/place"
        source = _build_tags(Path(data), options.images)
        _print("run", options.images, "tags", ("migrate", "run", source, "--data", data))
        for scheme, more in _EXPORTS:
            line = ("export", f"{scheme}:{place}", "--data", data, *more)
            for title in (" ".join((scheme, *more)), "again"):
                _print(title, options.images, "tags", line)
            shutil.rmtree(place)


def _build_tags(folder: Path, tags: int) -> str:
    """Build a tree of the reference registry; return it as a source."""
    tree = StockTree(folder)
    for number in range(tags):
        image = builders.image(builders.layer({"a": f"{number}".encode()}))
        tree.image(f"team/app{number // _TAGS}", image, f"{number}")
    return f"registry-tree:{folder}"


def _v1(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="dualreg-bench-", dir=options.folder) as folder:
        root, data = Path(folder) / "old", Path(folder) / "data"
        _build(root, options.images // _DEPTH)
        images, source = options.images // _DEPTH * _DEPTH, f"v1-tree:{root}"
        before = _own_bytes(root)
        for title, line in (
            ("inspect", ("migrate", "inspect", source)),
            ("run --link hard", ("migrate", "run", source, "--data", data, "--link", "hard")),
            ("run again", ("migrate", "run", source, "--data", data)),
            ("verify --quick", ("migrate", "verify", source, "--data", data, "--quick")),
            ("verify", ("migrate", "verify", source, "--data", data)),
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
    parser.add_argument("--export", action="store_true", help="export what was imported in place")
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
    command = [sys.executable, "-S", "-c", _MEASURED, DUALREG, *line]
    measured = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True)
    seconds, (status, worked, memory) = time.perf_counter() - began, json.loads(measured.stdout)
    if status:
        raise subprocess.CalledProcessError(status, line)
    sys.stdout.write(
        f"{title:25} {seconds:8.1f} s {count / seconds:10,.0f} {noun}/s"
        f" {worked:8.1f} s of a processor {memory >> 10:6} MiB\n"
    )


def _own_bytes(folder: Path) -> int:
    """Return the bytes of files that are nowhere else."""
    return sum(stat.st_size for stat in _stats(folder) if stat.st_nlink == 1)


def _stats(folder: Path) -> Iterator[os.stat_result]:
    return (path.stat() for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
