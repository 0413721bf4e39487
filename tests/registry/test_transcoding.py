"""Layers in zstd have a gzip edition, which is made once and is a blob like any other."""

import gzip
import hashlib

import pytest

from dualreg.errors import BlobDamaged, BlobMissing, BlobUnknown, ImageInvalid
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from tests import builders
from tests.conftest import GuardedStore
from tests.properties.registries import push_v2, read_blob

NAME, OTHER = RepositoryName("team/app"), RepositoryName("other/app")
LAYERS = [builders.layer({"a": hashlib.shake_256(b"a").digest(9000)}), builders.layer({"b": b"b" * 900})]
IMAGE = builders.zstd_image(*LAYERS)
SOURCES = [Digest.of(layer) for layer in IMAGE.layers]
DESCRIPTORS = [Descriptor(media_types.OCI_LAYER_ZSTD, Digest.of(layer), len(layer)) for layer in IMAGE.layers]


def test_layers_are_transcoded_once(registry: Registry, store: GuardedStore) -> None:
    """They uncompress to the same bytes. Repositories that have the layers share the result."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    plain = Descriptor(media_types.OCI_LAYER_GZIP, Digest.of(b"gzip"), 4)
    made = registry.transcoding.gzipped(NAME, [*DESCRIPTORS, plain])
    assert [*made] == SOURCES
    for source, layer in zip(SOURCES, LAYERS, strict=True):
        assert made[source].media_type == media_types.OCI_LAYER_GZIP
        content = read_blob(registry, NAME, made[source].digest)
        assert len(content) == made[source].size
        assert gzip.decompress(content) == gzip.decompress(layer)
    push_v2(registry, OTHER, Tag("1"), IMAGE)
    store.delete(SOURCES[0])
    assert registry.transcoding.gzipped(OTHER, DESCRIPTORS) == made
    for each in made.values():
        read_blob(registry, OTHER, each.digest)


def test_a_repository_without_the_layer_gets_no_edition(registry: Registry) -> None:
    """Not even one that another repository has."""
    push_v2(registry, NAME, Tag("1"), IMAGE)
    (made, *_) = registry.transcoding.gzipped(NAME, DESCRIPTORS).values()
    push_v2(registry, OTHER, Tag("1"), builders.image(LAYERS[0]))
    for name in (OTHER, RepositoryName("no/such")):
        with pytest.raises(BlobUnknown):
            registry.transcoding.gzipped(name, DESCRIPTORS)
        assert registry.blobs.find(name, made.digest) is None


def test_layers_that_cannot_be_read(registry: Registry, store: GuardedStore) -> None:
    """Those that were pushed so are told from those that are lost or damaged in the store."""
    broken = IMAGE.layers[0][:-9]
    registry.uploads.ingest(NAME, [broken])
    push_v2(registry, NAME, Tag("1"), IMAGE)
    descriptor = Descriptor(media_types.OCI_LAYER_ZSTD, Digest.of(broken), len(broken))
    with pytest.raises(ImageInvalid, match="truncated"):
        registry.transcoding.gzipped(NAME, [descriptor])
    store._blobs[SOURCES[0]] = store._blobs[SOURCES[0]][:-9]
    with pytest.raises(BlobDamaged):
        registry.transcoding.gzipped(NAME, DESCRIPTORS)
    store.delete(SOURCES[0])
    with pytest.raises(BlobMissing):
        registry.transcoding.gzipped(NAME, DESCRIPTORS)
    assert not [*store.staged()]
