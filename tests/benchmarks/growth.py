"""``python -m tests.benchmarks.growth``: read from a small registry and a large one in turn, and compare.

Every repository has a manifest with a tag, and a V1 image that is its view. Only what is read has files.
"""

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from dualreg.assembly import prepare
from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    ManifestViews,
    Repositories,
    RepositoryBlobs,
    Table,
    Tags,
    V1Images,
)
from dualreg.catalog.views import V1
from dualreg.image.digest import Digest
from dualreg.image.media_types import DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST
from dualreg.settings import Settings
from dualreg.storage.filesystem import FilesystemStore
from tests import builders
from tests.benchmarks import wire
from tests.benchmarks.filling import LONG_AGO, blob_row, record, say, write_blob
from tests.programs import Serving, children, dualreg_process, memory

#: Repositories that are recorded at once.
_BATCH = 5_000
_LAYER = builders.layer({"file": b"1" * 2_000})
_CONFIG = json.dumps(
    {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
).encode()
#: What all manifests name.
_DESCRIBED = builders.descriptor(DOCKER_CONFIG, _CONFIG)
_LAYERS = [builders.descriptor(DOCKER_LAYER_GZIP, _LAYER)]


@dataclass(frozen=True, slots=True)
class _Content:
    """What the repository of a number has."""

    number: int

    @property
    def name(self) -> str:
        return f"group{self.number % 1_000}/repository{self.number}"

    @property
    def image(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    @property
    def json(self) -> bytes:
        return json.dumps({"id": self.image, "os": "linux", "architecture": "amd64"}).encode()

    @property
    def manifest(self) -> bytes:
        content = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": _DESCRIBED, "layers": _LAYERS}
        return json.dumps({**content, "annotations": {"name": self.name}}).encode()


#: What is asked of each repository that is read: the title, and the path.
ROWS: dict[str, Callable[[_Content], str]] = {
    "manifest by tag": lambda each: f"/v2/{each.name}/manifests/latest",
    "manifest by digest": lambda each: f"/v2/{each.name}/manifests/{Digest.of(each.manifest)}",
    "blob": lambda each: f"/v2/{each.name}/blobs/{Digest.of(each.json)}",
    "tags/list": lambda each: f"/v2/{each.name}/tags/list",
    "_catalog of 100": lambda each: f"/v2/_catalog?n=100&last={each.name}",
    "referrers": lambda each: f"/v2/{each.name}/referrers/{Digest.of(each.manifest)}",
    "V1 tags": lambda each: f"/v1/repositories/{each.name}/tags",
    "V1 images": lambda each: f"/v1/repositories/{each.name}/images",
    "V1 json": lambda each: f"/v1/images/{each.image}/json",
    "V1 ancestry": lambda each: f"/v1/images/{each.image}/ancestry",
    "V1 layer": lambda each: f"/v1/images/{each.image}/layer",
}


def main() -> None:
    """Fill two registries, start both, and print how long reads take in each."""
    options = _options()
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="dualreg-bench-", dir=options.folder))
        )
        servers = []
        for size in (options.small, options.large):
            began = time.monotonic()
            read = _fill(folder / f"{size}", size, options.reads)
            say(f"{size:,} repositories, tags, manifests and V1 images in {time.monotonic() - began:,.0f} s")
            began = time.monotonic()
            settings: dict[str, Any] = {
                "workers": 1,
                "access_log": "false",
                "fsck_rate": 0,
                "gc_interval": "0s",
            }
            process = stack.enter_context(dualreg_process(folder / f"{size}", **settings))
            say(f"  started in {time.monotonic() - began:.1f} s")
            servers.append((process, read))
        _compare(servers, options.reads)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description=main.__doc__)
    parser.add_argument("--small", type=int, default=1_000, help="repositories of the small registry")
    parser.add_argument("--large", type=int, default=20_000, help="repositories of the large one")
    parser.add_argument(
        "--reads", type=int, default=1_000, help="reads of each kind, each of another repository"
    )
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    return parser.parse_args()


def _fill(data: Path, size: int, reads: int) -> Sequence[_Content]:
    """Record *size* repositories; return up to *reads* that can be read, from all over the catalog."""
    prepare(Settings(data=data))
    store = FilesystemStore(data)
    for content in (_LAYER, _CONFIG):
        write_blob(store, content)
    numbers = range(0, size, max(1, size // reads))[:reads]
    with closing(Catalog(f"sqlite:///{data}/catalog.sqlite3")) as catalog:
        for first in range(0, size, _BATCH):
            with catalog.engine.begin() as connection:
                _record(connection, [_Content(number) for number in range(first, min(first + _BATCH, size))])
    read = [_Content(number) for number in numbers]
    for each in read:
        write_blob(store, each.manifest)
        write_blob(store, each.json)
    return read


def _record(connection: Connection, contents: Sequence[_Content]) -> None:
    rows: dict[type[Table], list[dict[str, Any]]] = {}
    for table, values in ((table, values) for each in contents for table, values in _rows(each)):
        rows.setdefault(table, []).append(values)
    if contents[0].number == 0:
        rows[Blobs] += [_blob(_LAYER), _blob(_CONFIG)]
    record(connection, rows)


def _rows(content: _Content) -> Iterator[tuple[type[Table], dict[str, Any]]]:
    """Yield the rows of a repository, those first that others refer to."""
    own, manifest = {"repository_id": content.number + 1}, Digest.of(content.manifest)
    yield Repositories, {"id": content.number + 1, "name": content.name, "created_at": LONG_AGO}
    for each in (content.manifest, content.json):
        yield Blobs, _blob(each)
    for each in (content.manifest, content.json, _LAYER, _CONFIG):
        yield RepositoryBlobs, own | {"digest": Digest.of(each), "linked_at": LONG_AGO}
    described = {"media_type": DOCKER_MANIFEST, "artifact_type": "", "annotations": {"name": content.name}}
    yield Manifests, own | described | {"digest": manifest, "pushed_at": LONG_AGO}
    for position, (role, child) in enumerate((("config", _CONFIG), ("layer", _LAYER))):
        child_of = {"manifest": manifest, "child": Digest.of(child), "role": role, "position": position}
        yield ManifestChildren, own | child_of
    yield Tags, own | {"name": "latest", "manifest": manifest, "updated_at": LONG_AGO}
    layer = {"layer": Digest.of(_LAYER), "diff_id": Digest.of(_LAYER), "complete": True}
    yield V1Images, own | layer | {"image_id": content.image, "json": Digest.of(content.json)}
    yield ManifestViews, own | {"manifest": manifest, "kind": V1, "view": content.image}


def _blob(content: bytes) -> dict[str, Any]:
    return blob_row(Digest.of(content), len(content))


def _compare(served: Sequence[tuple[Serving, Sequence[_Content]]], reads: int) -> None:
    """Read everything once from each registry, in turn, and print the times and the memory that it took."""
    taken_up = [[_memory(server)] for server, _ in served]
    with ExitStack() as stack:
        clients = [stack.enter_context(wire.Connection(server.host)) for server, _ in served]
        for title, path in ROWS.items():
            times: list[list[float]] = [[] for _ in served]
            for number in range(reads):
                for client, taken, (_, read) in zip(clients, times, served, strict=True):
                    taken.append(_time(client, path(read[number % len(read)])))
            say(f"{title}: {_against(*map(_cuts, times))}")
            for sizes, (server, _) in zip(taken_up, served, strict=True):
                sizes.append(_memory(server))
    for sizes in taken_up:
        say(f"MiB of memory before all that, and after each: {' '.join(f'{size:,.0f}' for size in sizes)}")


def _time(client: wire.Connection, path: str) -> float:
    """Return the milliseconds that an answer takes."""
    began = time.perf_counter()
    client.ask("GET", path, headers={"Accept": DOCKER_MANIFEST})
    return (time.perf_counter() - began) * 1e3


def _cuts(times: list[float]) -> tuple[float, float]:
    """Return the median, and within how long 99 % of the answers came."""
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]


def _against(small: tuple[float, float], large: tuple[float, float]) -> str:
    return (
        f"median {small[0]:.2f} and {large[0]:.2f} ms ({large[0] / small[0]:.2f} x), "
        f"99 % within {small[1]:.2f} and {large[1]:.2f} ms ({large[1] / small[1]:.2f} x)"
    )


def _memory(server: Serving) -> float:
    """Return the MiB of memory that the processes of a server have that answer requests."""
    return sum(memory(worker, "VmRSS") for worker in children(server.process.pid)) / 2**20


if __name__ == "__main__":
    main()
