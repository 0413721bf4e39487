"""Layers are read through on behalf of clients a few at a time, and only if they must be."""

import gzip
import lzma
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaiting
from contextlib import ExitStack
from pathlib import Path

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.image.inflater import Compression
from dualreg.image.layer import read_diff_id
from dualreg.image.names import RepositoryName, Tag
from dualreg.storage.filesystem import FilesystemStore
from tests import builders
from tests.properties.registries import push_v1

NAME = RepositoryName("team/app")
TAR = gzip.decompress(builders.layer({"a": b"a" * 900}))
#: A layer, and whether V2 clients get it as it is; both, if that is found out without reading it through.
LAYERS = {
    "gzip": (gzip.compress(TAR), True, True),
    "none": (TAR, True, True),
    "xz": (lzma.compress(TAR), False, False),
    "padded gzip": (gzip.compress(TAR) + bytes(512), False, False),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_manifest_is_made_of_layers(catalog: Catalog, tmp_path: Path, kind: str) -> None:
    """One that must be compressed anew waits for a slot; others do not."""
    layer, is_kept, is_quick = LAYERS[kind]
    registry = build_registry(catalog, FilesystemStore(tmp_path))
    layers = registry.bridge.chains.layers
    chain = builders.v1_chain(layer)
    with ThreadPoolExecutor(1) as pool:
        with ExitStack() as busy:
            for _ in range(2):
                busy.enter_context(layers.inflating.slot())
            pushed = pool.submit(push_v1, registry, NAME, Tag("one"), chain)
            if is_quick:
                pushed.result(20)
            else:
                with pytest.raises(StillWaiting):
                    pushed.result(0.5)
        pushed.result(20)
    row = registry.manifests.peek(NAME, Tag("one"))
    assert row
    (named,) = (each for each in registry.manifests.load(row).children if each.role == "layer")
    with registry.blobs.open(named.descriptor.digest) as reader:
        stored = reader.read()
    assert (stored == layer) == is_kept
    expected = Compression.NONE if kind == "none" else Compression.GZIP
    assert read_diff_id([stored]) == (read_diff_id([TAR])[0], expected)
