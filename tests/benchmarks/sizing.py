"""``python -m tests.benchmarks.sizing``: how much memory and disk a registry takes, for docs/deploy.md.

Each image has a layer of its own, which is tiny: the catalog and the link files are what is measured.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import builders
from tests.programs import children, dualreg_process, until
from tests.protocol.clients.v2 import V2Client

#: Images of a repository, and clients that push at once.
_TAGS = 50
_CLIENTS = 16


def main() -> None:
    """Print what *images* of a client take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000, help="images to push (default: 2000)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the server (default: 2)")
    options = parser.parse_args()
    for line in measure(options.images, options.workers):
        sys.stdout.write(f"{line}\n")


def measure(images: int, workers: int) -> Iterator[str]:
    """Push images into an empty registry; yield lines about its processes, before and after, and its disk."""
    with TemporaryDirectory(prefix="dualreg-sizing-") as folder:
        data = Path(folder) / "data"
        with dualreg_process(data, fresh=True, workers=workers, access_log="false") as serving:
            until(lambda: len(children(serving.process.pid)) >= workers)  # one of them has answered
            processes = [serving.process.pid, *children(serving.process.pid)]
            yield f"idle: {_megabytes(processes)} MiB in the main process and each worker"
            before = _catalog(data)
            with ThreadPoolExecutor(_CLIENTS) as pool:
                list(pool.map(lambda number: _push(serving.host, number), range(images)))
            processes = [serving.process.pid, *children(serving.process.pid)]
            yield f"after {images} pushes: {_megabytes(processes)} MiB"
        links = sum(1 for path in data.rglob("link") if path.is_file())
        yield f"catalog: {(_catalog(data) - before) / images:,.0f} bytes for each image"
        yield f"link files: {links / images:.1f} for each image"


def _push(host: str, number: int) -> None:
    image = builders.image(builders.layer({"number": str(number).encode()}))
    V2Client(host).push(f"team/app{number // _TAGS}", f"{number % _TAGS}", image)


def _megabytes(processes: list[int]) -> str:
    """Return the memory of each process that no other one has, too: what one process more takes."""
    sizes = []
    for pid in processes:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        sizes.append(sum(int(size) for size in re.findall(r"Pss: +(\d+) kB", text)))
    return " + ".join(f"{size / 1024:.0f}" for size in sizes)


def _catalog(data: Path) -> int:
    return sum(path.stat().st_size for path in data.glob("catalog.sqlite3*"))


if __name__ == "__main__":
    main()
