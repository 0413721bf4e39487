"""``python -m tests.benchmarks.growth``: read from a small registry and a large one in turn, and compare.

Every repository has a manifest with a tag, whose history has a move, and a V1 image that is its view. Only
what is read has files. Pages that commands show are read by their services, in this process; those of the web
UI as browsers do.
"""

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from dualreg.acting import Api
from dualreg.assembly import open_registry, prepare
from dualreg.catalog import name_parts
from dualreg.catalog.database import Catalog
from dualreg.catalog.retention import RetentionRule
from dualreg.catalog.rows import Origin
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    ManifestViews,
    Repositories,
    RepositoryBlobs,
    Table,
    TagHistory,
    Tags,
    V1Images,
)
from dualreg.catalog.views import V1
from dualreg.image.digest import Digest
from dualreg.image.media_types import DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage.filesystem import FilesystemStore
from tests import builders
from tests.benchmarks import ui_pages, wire
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

_TAG = Tag("latest")
#: Repositories, or moves of a tag, on a page.
_PAGE = 100
_RULES = (RetentionRule("group1*/*", newest=3), RetentionRule("*", pulled_within=timedelta(days=90)))
#: What commands show of each repository that is read, or of those after it.
PAGES: dict[str, Callable[[Registry, RepositoryName], object]] = {
    "usage of 100": lambda registry, name: registry.usage.repositories(after=name, limit=_PAGE),
    "repository list of 100": lambda registry, name: registry.usage.listed(after=name, limit=_PAGE),
    "tag list": lambda registry, name: registry.tags.describe(name, limit=_PAGE, reader=None),
    "tag history": lambda registry, name: registry.history.page(name, _TAG, limit=_PAGE),
    "retention explain": lambda registry, name: [
        *registry.retention.judge(registry.retention.find(name), _RULES)
    ],
    "retention of 500": lambda registry, name: registry.retention.page(name),
}


def main() -> None:
    """Fill two registries, start both, and print how long reads take in each."""
    options = _options()
    with ExitStack() as stack:
        folder = options.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="dualreg-bench-", dir=options.folder))
        )
        filled = [
            (folder / f"{size}", _filled(folder / f"{size}", size, options.reads))
            for size in (options.small, options.large)
        ]
        if not options.ui:
            _compare(filled, options.reads)
            _compare_pages(filled)
        named = [(data, [each.name for each in read]) for data, read in filled]
        ui_pages.compare(named, options.views)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description=main.__doc__)
    parser.add_argument("--small", type=int, default=1_000, help="repositories of the small registry")
    parser.add_argument("--large", type=int, default=20_000, help="repositories of the large one")
    parser.add_argument(
        "--reads", type=int, default=1_000, help="reads of each kind, each of another repository"
    )
    parser.add_argument("--views", type=int, default=100, help="views of each page of the web UI")
    parser.add_argument("--ui", action="store_true", help="only the pages of the web UI")
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    parser.add_argument("--keep", type=Path, help="fill registries there, or use those that are there")
    return parser.parse_args()


def _filled(data: Path, size: int, reads: int) -> Sequence[_Content]:
    """Fill a registry, unless it is there from an earlier run; return as ``_fill``."""
    mark = data / "filled"
    if mark.exists():
        prepare(Settings(data=data))
        return _read(size, reads)
    began = time.monotonic()
    read = _fill(data, size, reads)
    mark.touch()
    say(f"{size:,} repositories, tags, manifests and V1 images in {time.monotonic() - began:,.0f} s")
    return read


def _read(size: int, reads: int) -> Sequence[_Content]:
    """Return up to *reads* repositories from all over a catalog of *size*."""
    return [_Content(number) for number in range(0, size, max(1, size // reads))[:reads]]


def _fill(data: Path, size: int, reads: int) -> Sequence[_Content]:
    """Record *size* repositories; return up to *reads* that can be read, from all over the catalog."""
    prepare(Settings(data=data))
    store = FilesystemStore(data)
    for content in (_LAYER, _CONFIG):
        write_blob(store, content)
    with closing(Catalog(f"sqlite:///{data}/catalog.sqlite3")) as catalog:
        for first in range(0, size, _BATCH):
            with catalog.engine.begin() as connection:
                _record(connection, [_Content(number) for number in range(first, min(first + _BATCH, size))])
        with catalog.engine.begin() as connection:
            name_parts.settle(connection)
    for each in (read := _read(size, reads)):
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
    yield Tags, own | {"name": _TAG, "manifest": manifest, "updated_at": LONG_AGO}
    moved = {"repository": content.name, "tag": _TAG, "at": LONG_AGO, "actor": "", "api": Api.V2}
    of_new = {"new": manifest, "origin": Origin.V2, "media_type": DOCKER_MANIFEST, "size": 0}
    yield TagHistory, moved | of_new
    layer = {"layer": Digest.of(_LAYER), "diff_id": Digest.of(_LAYER), "complete": True}
    yield V1Images, own | layer | {"image_id": content.image, "json": Digest.of(content.json)}
    yield ManifestViews, own | {"manifest": manifest, "kind": V1, "view": content.image}


def _blob(content: bytes) -> dict[str, Any]:
    return blob_row(Digest.of(content), len(content))


def _compare(filled: Sequence[tuple[Path, Sequence[_Content]]], reads: int) -> None:
    """Start both, read everything once from each in turn, and print the times and the memory that it took."""
    with ExitStack() as stack:
        served = [(stack.enter_context(_served(data)), read) for data, read in filled]
        taken_up = [[_memory(server)] for server, _ in served]
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


@contextmanager
def _served(data: Path) -> Iterator[Serving]:
    """Start a registry, and print how long that took."""
    began = time.monotonic()
    with dualreg_process(
        data, fresh=True, workers=1, access_log="false", fsck_rate=0, gc_interval="0s"
    ) as serving:
        say(f"started in {time.monotonic() - began:.1f} s")
        yield serving


def _compare_pages(filled: Sequence[tuple[Path, Sequence[_Content]]]) -> None:
    """Read each page once from each catalog, in turn, and print the times."""
    with ExitStack() as stack:
        registries = [stack.enter_context(closing(open_registry(Settings(data=data)))) for data, _ in filled]
        for title, read in PAGES.items():
            times: list[list[float]] = [[] for _ in filled]
            for names in zip(*(contents for _, contents in filled), strict=False):
                for registry, content, taken in zip(registries, names, times, strict=True):
                    taken.append(_timed(partial(read, registry, RepositoryName(content.name))))
            say(f"{title}: {_against(*map(_cuts, times))}")


def _time(client: wire.Connection, path: str) -> float:
    return _timed(lambda: client.ask("GET", path, headers={"Accept": DOCKER_MANIFEST}))


def _timed(read: Callable[[], object]) -> float:
    """Return the milliseconds that it takes."""
    began = time.perf_counter()
    read()
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
