"""Gzip layers that zeros follow, which no client of V2 reads."""

import gzip
import io
import json
import os
import zlib
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from dualreg.image.layer import TAIL, is_padded, looks_padded
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from tests import builders
from tests.builders import v1_chain
from tests.migrate.commands import command
from tests.migrate.stock_trees import StockTree
from tests.migrate.trees import LAYERS, Tree
from tests.properties.registries import push_v1, read_blob

_SMALL, _LARGE, _FLAT = (
    LAYERS["a"],
    builders.layer({"x": os.urandom(3 << 20)}),
    builders.layer({"x": bytes(9 << 20)}),
)
#: Of which the last byte is zero, or not.
_MEMBERS = gzip.compress(b"x" * 99) + gzip.compress(b"y" * (17 << 20))


@pytest.mark.parametrize(
    "layer", [_SMALL, _LARGE, _FLAT, _MEMBERS], ids=["small", "large", "flat", "members"]
)
@pytest.mark.parametrize("zeros", [0, 1, 3, 8, 512, 10240])
def test_zeros_are_noticed(layer: bytes, zeros: int) -> None:
    """However many follow, and whatever the layer is."""
    assert is_padded(io.BytesIO(layer + bytes(zeros))) == bool(zeros)


@pytest.mark.parametrize("layer", [_SMALL, _LARGE], ids=["small", "large"])
def test_layers_are_not_read_through(layer: bytes) -> None:
    """If their last bytes are the size of their content."""

    class Reader(io.BytesIO):
        count = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            Reader.count += len(data)
            return data

    assert not is_padded(Reader(layer))
    assert Reader.count == 6 + TAIL


@pytest.mark.slow
def test_hardly_any_small_layer_is_read_through() -> None:
    """And each that zeros follow is, however many."""
    sizes = [*range(1, 140), *range(130, 20_000, 331)]
    layers = [gzip.compress(bytes(blocks * 512) + os.urandom(512), mtime=0) for blocks in sizes]
    assert sum(looks_padded(io.BytesIO(layer)) for layer in layers) < len(layers) / 20
    for zeros in (*range(1, 9), 511, 512, 1024):
        assert all(looks_padded(io.BytesIO(layer + bytes(zeros))) for layer in layers)


def test_v1_layers_are_compressed_again(tmp_path: Path, data: Path, opened: Registry) -> None:
    """Migrated or pushed: old clients get the bytes that were sent, others gzip alone, of the same files."""
    tree, padded = Tree(tmp_path / "old"), LAYERS["a"] + bytes(512)
    tree.tag("team/moved", "1", tree.image("a", padded))
    command(data, f"run v1-tree:{tree.root}")
    command(data, f"verify v1-tree:{tree.root}")
    push_v1(opened, RepositoryName("team/pushed"), Tag("1"), v1_chain(padded))
    for name in map(RepositoryName, ("team/moved", "team/pushed")):
        row = opened.manifests.find(name, Tag("1"))
        (layer,) = json.loads(opened.manifests.payload(row))["layers"]
        content = read_blob(opened, name, Digest.parse(layer["digest"]))
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        assert inflate.decompress(content) == gzip.decompress(LAYERS["a"])
        assert (inflate.eof, inflate.unused_data, layer["size"]) == (True, b"", len(content))
        (top,) = opened.v1_images.ancestry(name, opened.bridge.resolve(name, Tag("1")))
        assert top.layer == Digest.of(padded)


@pytest.mark.parametrize("junk", [bytes(512), b"\0\0junk", b"junk"])
def test_v2_layers_are_named(tmp_path: Path, data: Path, junk: bytes) -> None:
    """They stay what they are, since their digests name them; a deep look says which they are."""
    tree = StockTree(tmp_path / "stock")
    image = builders.image(LAYERS["a"], LAYERS["b"])
    padded = LAYERS["b"] + junk
    document = json.loads(image.manifest)
    document["layers"][1] |= {"digest": str(Digest.of(padded)), "size": len(padded)}
    for content in (*image.blobs.values(), padded):
        tree.layer("team/app", content)
    tree.manifest("team/app", json.dumps(document).encode(), "1")
    line = f"registry-tree:{tree.root}"
    command(data, f"inspect {line}")
    (found,) = json.loads(command(data, f"inspect {line} --deep --json", code=1).stdout)["findings"]
    assert (found["kind"], found["where"]) == ("bad-gzip", str(Digest.of(padded)))
    assert "1 done" in command(data, f"run {line}").output


@pytest.mark.parametrize("junk", [b"junk", bytes(3) + b"junk", bytes(2 << 20) + b"j"])
def test_other_bytes_are_refused(tmp_path: Path, data: Path, junk: bytes) -> None:
    """No client reads a V1 layer that something else follows; the reason says so."""
    tree = Tree(tmp_path / "old")
    tree.tag("team/app", "1", tree.image("a", LAYERS["a"] + junk))
    output = command(data, f"run v1-tree:{tree.root}", code=3).output
    assert "other bytes follow the compressed layer" in output
