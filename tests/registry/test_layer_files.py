"""What is found in layers that clients chose: of any compression, and of any size, within bounds."""

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.errors import ServerBusy
from dualreg.image.digest import Digest
from dualreg.image.entries import Entry, Kind, shown
from dualreg.image.layer_changes import Change
from dualreg.image.names import RepositoryName
from dualreg.operations import layers
from dualreg.registry import Registry
from dualreg.registry.inspection import ImageLayers
from dualreg.registry.layer_files import FoundEntry, LayerContents, LayerFiles, Limits
from dualreg.storage.filesystem import FilesystemStore
from dualreg.waiting import WorkSlots
from tests import builders
from tests.builders import zstd_compress
from tests.state import blob_file

NAME, OTHER = RepositoryName("team/app"), RepositoryName("team/other")
TAR = builders.tar({"etc/passwd": b"root", "etc/.wh.old": b"", "opt/.wh..wh..opq": b""})
FILES = [("etc/passwd", Kind.FILE), ("etc/old", Kind.WHITEOUT), ("opt", Kind.OPAQUE)]
BASE = builders.tar({"etc/passwd": b"", "etc/old": b"", "opt/a": b"", "usr/b": b""})
CHANGES = [("etc/old", Change.REMOVED), ("etc/passwd", Change.CHANGED), ("opt/a", Change.REMOVED)]
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "gzip of two members": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    "padded gzip": lambda data: gzip.compress(data) + bytes(512),
    "zstd": zstd_compress,
    "tar": bytes,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "store"


@pytest.fixture
def registry(catalog: Catalog, folder: Path) -> Registry:
    """A registry over real files."""
    return build_registry(catalog, FilesystemStore(folder))


def push(registry: Registry, data: bytes, name: RepositoryName = NAME) -> Digest:
    """Push a layer."""
    return registry.uploads.ingest(name, [data]).digest


def listed(
    registry: Registry, layer: Digest, limits: Limits | None = None
) -> tuple[list[tuple[str, Kind]], str]:
    """Return paths and kinds of what a layer has, and why it has more."""
    found = LayerFiles(registry.state, limits or Limits()).files(NAME, layer)
    return [(entry.path, entry.kind) for entry, _ in found.rows], found.incomplete


@pytest.mark.parametrize("kind", PACKED)
def test_any_compression(registry: Registry, kind: str) -> None:
    """Files and changes are the same."""
    base, layer = (push(registry, PACKED[kind](data)) for data in (BASE, TAR))
    assert listed(registry, layer) == (FILES, "")
    found = registry.layer_files.changes(NAME, [base, layer])
    assert [(entry.path, change) for entry, change in found.rows] == CHANGES
    assert found.incomplete == ""


def sparse(size: int) -> bytes:
    """Return a header of a sparse file that claims a size, and has no content."""
    header = tarfile.TarInfo("sparse")
    header.type, header.size = tarfile.GNUTYPE_SPARSE, size
    return header.tobuf(tarfile.GNU_FORMAT)


def raw(name: bytes) -> bytes:
    """Return a file whose name is any bytes."""
    return tarfile.TarInfo(name.decode("utf-8", "surrogateescape")).tobuf(
        tarfile.GNU_FORMAT, "utf-8", "surrogateescape"
    )


MANY = builders.tar({f"{number:03}": b"" for number in range(300)})


@pytest.mark.parametrize(
    ("data", "limits", "found", "why"),
    [
        pytest.param(b"", Limits(), 0, "", id="nothing"),
        pytest.param(bytes(10240), Limits(), 0, "", id="an empty archive"),
        pytest.param(b"no tar" * 500, Limits(), 0, "cannot be read", id="no archive"),
        pytest.param(MANY[:-20000], Limits(), 280, "cannot be read", id="ends within a header"),
        pytest.param(gzip.compress(MANY)[:-300], Limits(), None, "cannot be read", id="truncated gzip"),
        pytest.param(zstd_compress(MANY)[:-2], Limits(), None, "cannot be read", id="truncated zstd"),
        pytest.param(gzip.compress(MANY) + b"more", Limits(), 300, "cannot be read", id="more follows"),
        pytest.param(MANY, Limits(entries=100), 100, "more than 100 entries", id="many entries"),
        pytest.param(MANY, Limits(names=30), 10, "names of more", id="long names"),
        pytest.param(
            builders.tar({f"\U0001f600{number}": b"" for number in range(9)}) , Limits(names=30), 3,
            "names of more", id="wide names",
        ),
        pytest.param(MANY, Limits(seconds=-1), 0, "seconds", id="slow"),
        pytest.param(
            gzip.compress(builders.tar({"a": bytes(5 << 20), "b": b""})),
            Limits(inflated=3 << 20), 1, "too large to list all of it", id="large",
        ),
        pytest.param(
            zstd_compress(bytes(50 << 20)), Limits(inflated=9 << 20), 0, "too large", id="many zeros"
        ),
        pytest.param(
            b"".join(gzip.compress(MANY[at : at + 512]) for at in range(0, len(MANY), 512)),
            Limits(inflated=1 << 20), 300, "", id="a member for each file",
        ),
        pytest.param(sparse(1 << 60), Limits(), 1, "cannot be read", id="a sparse file of an exbibyte"),
        pytest.param(raw(b"\xff\xfe") + raw(b"a\nb") + bytes(1024), Limits(), 2, "", id="names of any bytes"),
        pytest.param(
            raw(b"x/" * 2000 + b"y") + raw(b"x/" * 2000 + b"z") + bytes(1024), Limits(), 2, "", id="deep"
        ),
    ],
)  # fmt: skip
def test_hostile_layers(registry: Registry, data: bytes, limits: Limits, found: int | None, why: str) -> None:
    """They are listed as far as that goes, in a sentence; of changes, there are all or none."""
    layer = push(registry, data)
    rows, incomplete = listed(registry, layer, limits)
    assert len(rows) == found or (found is None and len(rows) < 300)
    assert (why in incomplete, bool(incomplete)) == (True, bool(why))
    service = LayerFiles(registry.state, limits)
    changes = service.changes(NAME, [push(registry, builders.tar({})), layer])
    assert len(changes.rows) == (0 if why else found)
    assert bool(changes.incomplete) == bool(why)


def test_a_bomb(registry: Registry) -> None:
    """Gigabytes in a few kilobytes are not uncompressed but for a moment."""
    bomb = tarfile.TarInfo("a")
    bomb.size = 1 << 40
    data = zstd_compress(bomb.tobuf() + bytes(100 << 20))
    assert len(data) < 1 << 20
    rows, incomplete = listed(registry, push(registry, data), Limits(inflated=64 << 20))
    assert rows == [("a", Kind.FILE)]
    assert "too large" in incomplete


def test_levels_of_directories_are_bounded(registry: Registry) -> None:
    """Each level takes memory, whatever little the archive has of it."""
    layer = push(registry, raw(b"/".join([b"d"] * 3000)) + bytes(1024))
    service = LayerFiles(registry.state, Limits(entries=1000))
    assert "more than 1000 entries" in service.changes(NAME, [layer]).incomplete
    assert len(service.files(NAME, layer).rows) == 1


def test_what_is_not_there(registry: Registry, folder: Path) -> None:
    """A layer of another repository is as absent as one of none; lost bytes are said to be lost."""
    elsewhere, lost = push(registry, TAR, OTHER), push(registry, BASE)
    blob_file(folder, lost).unlink()
    for layer in (elsewhere, Digest.of(b"none")):
        rows, why = listed(registry, layer)
        assert (rows, f"Layer {layer} is not in this repository" in why) == ([], True)
    assert "lost or damaged" in listed(registry, lost)[1]
    assert "lost or damaged" in registry.layer_files.changes(NAME, [lost, push(registry, MANY)]).incomplete


def test_one_at_a_time(registry: Registry) -> None:
    """While a layer is read, others wait a moment, then come back later; known answers need no turn."""
    known, new = push(registry, TAR), push(registry, BASE)
    service = replace(registry.layer_files, slots=WorkSlots(1, 1, 0.05))
    before = service.files(NAME, known)
    held, done = Event(), Event()

    def hold() -> None:
        with service.slots.slot():
            held.set()
            assert done.wait(60)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        try:
            assert held.wait(60)
            assert service.files(NAME, known) is before
            with pytest.raises(ServerBusy):
                service.files(NAME, new)
        finally:
            done.set()
        holding.result(60)
    assert service.files(NAME, new).rows


def test_answers_are_kept_within_bounds(registry: Registry, folder: Path) -> None:
    """The largest answer has room, and a second look reads nothing."""
    layer = push(registry, MANY)
    first = registry.layer_files.files(NAME, layer)
    blob_file(folder, layer).unlink()
    assert registry.layer_files.files(NAME, layer) is first
    most = Limits()
    largest = LayerContents([FoundEntry(Entry("", Kind.FILE), None)] * most.entries)
    assert largest.size + most.names <= registry.layer_files._known.maxsize


def test_only_the_names_of_a_page_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of all entries, which takes seconds for each page, also if one path is asked for."""
    names = ["a", "a\n", "a\n/b", "a\n/c", "a\nb", "a\\n"]
    contents = LayerContents([FoundEntry(Entry(name, Kind.FILE), Change.ADDED) for name in names])
    image, escaped = ImageLayers("t", Digest.of(b""), (Digest.of(b"layer"),)), list[str]()

    def note(name: str) -> str:
        escaped.append(name)
        return shown(name)

    monkeypatch.setattr(layers, "shown", note)
    page = layers._Asked(r"/a\n/", 2, "").of(image, 0, contents, [*Change])
    assert [each.path for each in page.rows] == [r"/a\n", r"/a\n/b"]
    assert (page.total, page.counts) == (3, {"added": 3, "changed": 0, "removed": 0})
    assert [each for each in escaped if each] == names[1:3]
