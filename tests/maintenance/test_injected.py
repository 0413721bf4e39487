"""Every kind of corruption of every kind of file is found: N of N, as a table (``pytest -s`` shows it)."""

import os
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dualreg.assembly import open_catalog, open_registry, prepare
from dualreg.catalog.database import Catalog
from dualreg.image.layer import empty_layer
from dualreg.maintenance.fsck.check import GRACE, Check
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage import Store, open_store
from tests.apps import client_of
from tests.maintenance.world import fill
from tests.registry.test_damage import cut, empty, flip, lengthen, lose

TREE = Path("docker/registry/v2")


def _other(path: Path) -> None:
    """Give a file other content of the same length, and its time."""
    before, content = path.stat(), path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes(byte ^ 1 for byte in content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


#: What may happen to a file, and to a link file: only that it says something else is noticed there.
CORRUPTIONS: Mapping[str, Callable[[Path], None]] = {
    "lost": lose,
    "emptied": empty,
    "cut": cut,
    "lengthened": lengthen,
    "bit flipped": flip,
    "other bytes": _other,
    "a folder": _folder,
}


#: Which blobs are of each kind.
BLOBS = {
    "empty layer": f"SELECT '{empty_layer().digest}'",
    "index": "SELECT digest FROM manifests WHERE media_type LIKE '%index%'",
    "schema 1": "SELECT digest FROM manifests WHERE media_type LIKE '%.v1+%'",
    "manifest": "SELECT digest FROM manifests",
    "signatures": "SELECT child FROM manifest_children WHERE role = 'signed'",
    "config": "SELECT child FROM manifest_children WHERE role = 'config'",
    "V1 JSON": "SELECT json FROM v1_images",
    "layer": "SELECT digest FROM blobs",
}


def name_of(file: Path) -> str:
    """Return how findings name a file: by its digest, or its path below the folder of repositories."""
    parts = file.parts[file.parts.index("v2") + 1 :]
    return f"{parts[1]}:{parts[3]}" if parts[0] == "blobs" else "/".join(parts[1:])


class World:
    """A registry whose files are damaged one after the other.

    Attributes:
        files: The files of each kind; all are in use.
    """

    def __init__(self, settings: Settings, catalog: Catalog, registry: Registry) -> None:
        self.catalog, self.registry, self._file = catalog, registry, settings.data / "catalog.sqlite3"
        self.store: Store = open_store(settings.store_url)
        self.files = {kind: [*found] for kind, found in self._kinds(settings.data / TREE)}

    def check(self) -> set[str]:
        """Return what findings name."""
        check = Check(self.catalog, self.store, self.registry.integrity, read=True)
        return {finding.where for finding, _ in check.run()}

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table that say something, with the name of their repository."""
        join = "" if table == "blobs" else f"JOIN repositories AS r ON r.id = {table}.repository_id"
        name = "''" if table == "blobs" else "r.name"
        said = "WHERE view IS NOT NULL" if table == "manifest_views" else ""
        query = f"SELECT {table}.rowid AS row, {name} AS repository, {table}.* FROM {table} {join} {said}"  # noqa: S608 -- our own names
        with closing(self._connect()) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    @contextmanager
    def without(self, table: str, row: int) -> Iterator[None]:
        """Lose a row for the block, whatever depends on it."""
        with closing(self._connect()) as connection:
            connection.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {table} WHERE rowid = {row}")  # noqa: S608 -- our own names
            connection.execute(f"DELETE FROM {table} WHERE rowid = {row}")  # noqa: S608 -- the same
            try:
                yield
            finally:
                connection.execute(f"INSERT INTO {table} SELECT * FROM kept")  # noqa: S608 -- the same

    def _connect(self) -> sqlite3.Connection:
        """Return a connection that does not look at foreign keys."""
        return sqlite3.connect(self._file, isolation_level=None)

    def _kinds(self, root: Path) -> Iterator[tuple[str, Iterator[Path]]]:
        blobs, names = self._blobs(), root / "repositories"
        for kind in [*BLOBS][1:]:
            yield kind, (root / "blobs" / d[:6] / d[7:9] / d[7:] / "data" for d in sorted(blobs[kind]))
        yield "link of a blob", names.glob("**/_layers/*/*/link")
        yield "link of a manifest", names.glob("**/_manifests/revisions/*/*/link")
        yield "link of signatures", names.glob("**/signed")
        yield "media type", names.glob("**/type")
        yield "view", names.glob("**/views/*")
        yield "link of a tag", names.glob("**/current/link")
        yield "pusher of a tag", names.glob("**/origin")
        yield "V1 image", names.glob("**/_v1/*")

    def _blobs(self) -> dict[str, set[str]]:
        """Return the digests of blobs by kind, each in the first kind that it is of."""
        found, seen = dict[str, set[str]](), set[str]()
        with closing(self._connect()) as connection:
            for kind, query in BLOBS.items():
                digests = {str(row[0]) for row in connection.execute(query)}
                found[kind] = {each for each in digests - seen if each.startswith("sha256:")}
                seen |= digests
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One with content of every kind."""
    data = tmp_path_factory.mktemp("injected") / "data"
    settings = Settings(data=data, audit="off", sparse_indexes=True)
    prepare(settings)
    with closing(open_registry(settings)) as registry, closing(open_catalog(settings)) as catalog:
        fill(client_of(registry, settings))
        for file in (data / TREE / "blobs").rglob("data"):  # which were not written just now
            os.utime(file, (file.stat().st_mtime - 2 * GRACE.seconds,) * 2)
        yield World(settings, catalog, registry)


@contextmanager
def restored(path: Path) -> Iterator[None]:
    """Put a file back after the block."""
    kept = path.with_name(f".kept-{path.name}")
    shutil.copy2(path, kept)
    try:
        yield
    finally:
        if path.is_dir():
            path.rmdir()
        path.parent.mkdir(parents=True, exist_ok=True)
        kept.replace(path)


@pytest.mark.sqlite
@pytest.mark.slow
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_every_corruption_of_a_file_is_found(world: World, corruption: str) -> None:
    """By a finding that names it, one file of each kind at a time; all files with SOAK."""
    rounds = max(map(len, world.files.values())) if os.environ.get("SOAK") else 1
    first, counts = [*CORRUPTIONS].index(corruption), Counter[str]()
    for number in range(first, first + rounds):
        chosen = {kind: files[number % len(files)] for kind, files in world.files.items()}
        with ExitStack() as stack:
            for file in chosen.values():
                stack.enter_context(restored(file))
                CORRUPTIONS[corruption](file)
            seen = world.check()
        missed = [kind for kind, file in chosen.items() if name_of(file) not in seen]
        assert not missed, (number, missed, seen)
        counts.update(chosen.keys())
    found = ", ".join(f"{kind} {count} of {count}" for kind, count in counts.items())
    sys.stdout.write(f"\n{corruption}: {found}\n")
    assert world.check() == set()


def _folder(digest: str) -> str:
    return digest.replace(":", "/")


#: What names a lost row of each table: the file that it leaves behind, or what needs it.
ROWS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "blobs": lambda row: row["digest"],
    "repository_blobs": lambda row: f"{row['repository']}/_layers/{_folder(row['digest'])}/link",
    "manifests": lambda row: f"{row['repository']}/_manifests/revisions/{_folder(row['digest'])}/link",
    "manifest_children": lambda row: f"{row['repository']}@{row['manifest']}",
    "manifest_views": lambda row: (
        f"{row['repository']}/_manifests/revisions/{_folder(row['manifest'])}/views/{row['kind']}"
    ),
    "tags": lambda row: f"{row['repository']}/_manifests/tags/{row['name']}/current/link",
    "v1_images": lambda row: f"{row['repository']}/_v1/{row['image_id']}",
}


@pytest.mark.sqlite
@pytest.mark.slow
@pytest.mark.parametrize("table", ROWS)
def test_every_lost_row_is_found(world: World, table: str) -> None:
    """By a finding that names what it leaves behind, or what needs it; a few rows, or all with SOAK."""
    rows = world.rows(table)
    rows = rows if os.environ.get("SOAK") else rows[:: len(rows) // 4 + 1]
    for row in rows:
        with world.without(table, row["row"]):
            seen = world.check()
        assert ROWS[table](row) in seen, (row, seen)
    sys.stdout.write(f"\nlost rows of {table}: {len(rows)} of {len(rows)}\n")
    assert world.check() == set()
