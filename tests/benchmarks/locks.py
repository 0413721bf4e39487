"""``python -m tests.benchmarks.locks``: how long the write lock is held by what changes thousands of rows.

SQLite lets one transaction write at a time, so the longest one is how long other writers wait.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog, Transaction, Undo
from dualreg.catalog.upgrade import upgrade
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.storage.filesystem import FilesystemStore
from tests import builders
from tests.properties.registries import push_v2

NAME, TAG = RepositoryName("team/app"), Tag("latest")
IMAGE = builders.image(builders.layer({"a": b"1"}))
#: Tags in one request, as many as the API takes.
_AT_ONCE = 32


class TimedCatalog(Catalog):
    """A catalog that remembers how long each of its transactions lasted, in seconds."""

    def __init__(self, url: str) -> None:
        """Use the database at *url*."""
        super().__init__(url)
        self.times: list[float] = []

    @contextmanager
    def begin(self, *, durable: bool = True, undo: Undo | None = None) -> Iterator[Transaction]:
        """Measure from when the lock is held to the end of the commit."""
        with super().begin(durable=durable, undo=undo) as tx:
            began = time.perf_counter()
            yield tx
        self.times.append(time.perf_counter() - began)


def measure(folder: Path, tags: int) -> Iterator[tuple[str, float, float, int]]:
    """Yield what was done, the seconds in all and of the longest transaction, and how many there were."""
    catalog = TimedCatalog(f"sqlite:///{folder / 'catalog.sqlite3'}")
    upgrade(catalog)
    registry = build_registry(catalog, FilesystemStore(folder / "store"))

    def timed(act: Callable[[], object]) -> tuple[float, float, int]:
        catalog.times.clear()
        began = time.perf_counter()
        act()
        return time.perf_counter() - began, max(catalog.times), len(catalog.times)

    push_v2(registry, NAME, TAG, IMAGE)
    yield f"push a manifest with {_AT_ONCE} new tags", *timed(lambda: tag(registry, "new", _AT_ONCE))
    yield f"push it with {_AT_ONCE} tags that exist", *timed(lambda: tag(registry, "new", _AT_ONCE))
    tag(registry, "t", tags)
    yield f"delete a manifest with {tags} tags", *timed(lambda: registry.manifests.delete(NAME, IMAGE.digest))
    push_v2(registry, NAME, TAG, IMAGE)
    tag(registry, "t", tags)
    yield f"delete {tags} tags over V1", *timed(lambda: registry.tags.clear(NAME))
    tag(registry, "t", tags)
    artifacts(registry, tags // 4)
    what = f"delete a repository of {tags} tags and {tags // 4} manifests"
    yield what, *timed(lambda: registry.repositories.delete(NAME))
    catalog.close()


def tag(registry: Registry, prefix: str, count: int) -> None:
    """Push the image again with so many tags."""
    for first in range(0, count, _AT_ONCE):
        tags = [Tag(f"{prefix}{number}") for number in range(first, min(first + _AT_ONCE, count))]
        registry.manifests.put(NAME, IMAGE.digest, IMAGE.media_type, IMAGE.manifest, tags=tags)


def artifacts(registry: Registry, count: int) -> None:
    """Push so many manifests without tags."""
    for number in range(count):
        document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}
        payload = json.dumps(document | {"annotations": {"n": f"{number}"}}).encode()
        registry.manifests.put(NAME, Digest.of(payload), media_types.OCI_INDEX, payload)


def main() -> None:
    """Print a line for each operation."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.locks", description=main.__doc__)
    parser.add_argument("--tags", type=int, default=7000, help="of the manifest and the repository")
    parser.add_argument("--folder", type=Path, help="where to keep the registry meanwhile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dualreg-locks-", dir=options.folder) as folder:
        for what, total, longest, count in measure(Path(folder), options.tags):
            sys.stdout.write(
                f"{what}: {total:.2f} s, longest of {count} transactions: {longest * 1000:.0f} ms\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
