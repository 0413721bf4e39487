"""``python -m tests.benchmarks.garbage``: collect dead blobs among many that are alive, while clients read.

Blobs are small files: what a collection costs does not depend on their size.
"""

import argparse
import http.client
import json
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

from dualreg.assembly import prepare
from dualreg.catalog.database import Catalog
from dualreg.catalog.dialects import batches
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    Repositories,
    RepositoryBlobs,
    Table,
)
from dualreg.image.digest import Digest
from dualreg.image.media_types import DOCKER_MANIFEST
from dualreg.settings import Settings
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.link_folder import REGISTRY
from dualreg.storage.links import blob_link
from tests.benchmarks.filling import LONG_AGO, blob_row, record, say, write_blob, write_file
from tests.programs import DUALREG, dualreg_server, environment, memory

#: Blobs of a repository, and those of them that each of its manifests names.
_REPOSITORY, _IMAGE = 1_000, 20
#: Clients, and how often each of them reads a blob in a second.
_CLIENTS, _RATE = 4, 50


def main() -> None:
    """Fill a registry, and measure reads without a collection, and beside one."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="dualreg-bench-", dir=options.folder) as folder:
        data, began = Path(folder) / "data", time.monotonic()
        urls = _fill(data, options.alive, options.dead)
        say(f"{options.alive:,} blobs alive and {options.dead:,} dead in {time.monotonic() - began:,.0f} s")
        settings = {"gc_interval": "0s", "access_log": "false", "fsck_rate": 0}
        with dualreg_server(data, **settings) as host:
            _read(host, urls, lambda: time.sleep(options.seconds / 4))
            alone, _ = _read(host, urls, lambda: time.sleep(options.seconds))
            beside, (seconds, busy, memory, result) = _read(host, urls, lambda: _collect(data))
        say(
            f"gc: {seconds:,.0f} s, {busy:,.1f} s of them on a processor, "
            f"{result['blobs']:,} blobs deleted, {memory / 2**20:,.0f} MiB of memory"
        )
        say(f"reads alone: {_times(alone)}")
        say(f"reads beside gc: {_times(beside)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.garbage", description=main.__doc__)
    parser.add_argument("--alive", type=int, default=10_000, help="blobs that manifests name")
    parser.add_argument("--dead", type=int, default=1_000, help="blobs that nothing names")
    parser.add_argument("--seconds", type=int, default=10, help="of reading without a collection")
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    return parser.parse_args()


def _fill(data: Path, alive: int, dead: int) -> list[str]:
    """Write files and rows, and return the paths of some blobs that are alive."""
    prepare(Settings(data=data))
    urls: list[str] = []
    step = max(1, dead * _REPOSITORY // max(1, alive))
    with closing(Catalog(f"sqlite:///{data}/catalog.sqlite3")) as catalog:
        for number in range(-(-alive // _REPOSITORY)):
            repository = _Repository(data, number + 1)
            living = [*repository.blobs(min(_REPOSITORY, alive - number * _REPOSITORY))]
            left = max(0, min(step, dead - number * step))
            unused = [*repository.blobs(left, linked=True)]
            _record(catalog, repository.id, repository.name, living, unused)
            urls += [f"/v2/{repository.name}/blobs/{digest}" for digest in living[:: _REPOSITORY // 10]]
    return urls


def _record(catalog: Catalog, id_: int, name: str, living: list[Digest], unused: list[Digest]) -> None:
    """Record a repository: of its *living* blobs, every twentieth is a manifest that names the next ones."""
    images = [*batches(living, _IMAGE)]
    own = {"repository_id": id_}
    manifest = {"media_type": DOCKER_MANIFEST, "artifact_type": "", "annotations": {}, "pushed_at": LONG_AGO}
    rows: dict[type[Table], list[dict[str, Any]]] = {
        Repositories: [{"id": id_, "name": name, "created_at": LONG_AGO}],
        Blobs: [blob_row(digest, 40) for digest in (*living, *unused)],
        RepositoryBlobs: [
            own | {"digest": digest, "linked_at": LONG_AGO, "candidate_since": since}
            for digests, since in ((living, None), (unused, LONG_AGO))
            for digest in digests
        ],
        Manifests: [own | manifest | {"digest": image[0]} for image in images],
        ManifestChildren: [
            own | {"manifest": image[0], "child": child, "role": "layer", "position": position}
            for image in images
            for position, child in enumerate(image[1:])
        ],
    }
    with catalog.engine.begin() as connection:
        record(connection, rows)


class _Repository:
    """Writes the files of a repository without waiting for the disk."""

    def __init__(self, data: Path, number: int) -> None:
        self.id, self.name = number, f"group{number % 100}/repository{number}"
        self._store, self._links = FilesystemStore(data), data / REGISTRY / "repositories"
        self._numbers = count()

    def blobs(self, number: int, *, linked: bool = False) -> Iterator[Digest]:
        """Write some blobs of 40 bytes, and their links to the repository."""
        for each, _ in zip(self._numbers, range(number), strict=False):
            digest = write_blob(self._store, f"{self.name} {each}".ljust(40).encode())
            if linked:
                write_file(self._links / blob_link(self.name, digest), str(digest).encode())
            yield digest


def _read(host: str, urls: list[str], action: Callable[[], Any]) -> tuple[list[float], Any]:
    """Read blobs while *action* runs; return how many seconds each took, and what *action* returned."""
    done = Event()
    with ThreadPoolExecutor(_CLIENTS) as pool:
        reading = [pool.submit(_client, host, urls[first::_CLIENTS], done) for first in range(_CLIENTS)]
        try:
            result = action()
        finally:
            done.set()
        return [each for client in reading for each in client.result()], result


def _client(host: str, urls: list[str], done: Event) -> list[float]:
    times, due = [], time.perf_counter()
    with closing(http.client.HTTPConnection(host)) as connection:
        for number in count():
            if done.is_set():
                return times
            due = max(due + 1 / _RATE, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            connection.request("GET", urls[number % len(urls)])
            response = connection.getresponse()
            body = response.read()
            times.append(time.perf_counter() - began)
            assert (response.status, len(body)) == (200, 40), (response.status, body)
    return times


def _collect(data: Path) -> tuple[float, float, int, dict[str, Any]]:
    """Collect as the server does; return seconds, those on a processor, bytes of memory, and what went."""
    began, used, peak = time.monotonic(), _processor(), 0
    line = ["nice", "-n", "10", DUALREG, "gc", "--json", "--data", data]
    env = environment() | {"DUALREG_GC_GRACE": "0s"}
    # Into a file: of many repositories, it prints more than a pipe holds.
    with (
        tempfile.TemporaryFile() as printed,
        subprocess.Popen([*map(str, line)], env=env, stdout=printed) as process,
    ):
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.05)
        seconds = time.monotonic() - began
        printed.seek(0)
        return seconds, _processor() - used, peak, json.load(printed)


def _processor() -> float:
    """Return how many seconds processes have used that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _times(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    rate = f"{len(seconds):,} reads"
    return f"{rate}, median {cuts[49] * 1e3:.1f} ms, 99 % within {cuts[98] * 1e3:.1f} ms"


if __name__ == "__main__":
    main()
