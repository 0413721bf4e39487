"""The laws of conversion, over services and stored bytes: both eras see one image."""

import bz2
import gzip
import json
import lzma
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualreg.catalog.rows import V1ImageRow
from dualreg.image.digest import Digest
from dualreg.image.documents import dump
from dualreg.image.formats import Role
from dualreg.image.layer import EMPTY_LAYER, DiffIdHasher, empty_diff_ids
from dualreg.image.manifest import parse
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.v1_image import chain_id
from dualreg.registry import Registry
from dualreg.registry.accept import Accept, Agent
from tests.builders import Image, V1Pushed, image, layer, tar, v1_chain
from tests.properties.registries import fresh_registry, push_v1, push_v2, read_blob
from tests.soak import short_or_long

REPOSITORY = RepositoryName("library/x")
V1, V2, AGAIN = Tag("pushed-by-v1"), Tag("pushed-by-v2"), Tag("again")

_FILES = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from([b"", b"1", b"22"]), max_size=2)
_TEXT = st.sampled_from(["", "me <me@x>", "a & b", "\u2028", "é", 'quote " and \\'])
_IMAGE = st.builds(
    lambda files, oci, author, labels: image(
        *map(layer, files), oci=oci, author=author, config={"Labels": labels}
    ),
    st.lists(_FILES, max_size=4),
    st.booleans(),
    _TEXT,
    st.dictionaries(_TEXT, _TEXT, max_size=2),
)
_LAYER = st.one_of(
    _FILES.map(layer),
    _FILES.map(tar),
    _FILES.map(lambda files: bz2.compress(tar(files))),
    _FILES.map(lambda files: lzma.compress(tar(files), preset=0)),
    st.sampled_from([EMPTY_LAYER, bytes(1024), gzip.compress(b"", mtime=0)]),
)
_CHAIN = st.lists(_LAYER, min_size=1, max_size=4).map(lambda layers: v1_chain(*layers))

law = settings(max_examples=short_or_long(15, 500), deadline=None, print_blob=True)
#: Docker 1.6 to 1.9.
OLD = Accept(agent=Agent(schema1_by_default=True))


def _pulled_by_v1(registry: Registry, tag: Tag) -> list[V1ImageRow]:
    """Return what a V1 client gets for the tag, base first."""
    top = registry.bridge.resolve(REPOSITORY, tag)
    assert registry.bridge.tags(REPOSITORY)[tag] == top
    rows = registry.v1_images.ancestry(REPOSITORY, top)
    assert {row.id for row in rows} <= set(registry.bridge.images(REPOSITORY))
    return [*reversed(rows)]


def _layers(registry: Registry, rows: Sequence[V1ImageRow]) -> list[bytes]:
    return [read_blob(registry, REPOSITORY, row.layer) for row in rows if row.layer]


def _inside(data: bytes) -> Digest:
    hasher = DiffIdHasher()
    hasher.update(data)
    return hasher.digest()


@pytest.mark.slow
@law
@given(_IMAGE)
def test_a_v1_pull_gives_the_layers_that_v2_pushed(pushed: Image) -> None:
    """Law (a): the ancestry's layers are exactly the manifest's, in order; without any, the empty one."""
    with fresh_registry() as registry:
        push_v2(registry, REPOSITORY, V2, pushed)
        rows = _pulled_by_v1(registry, V2)
        assert _layers(registry, rows) == [*pushed.layers] or (
            not pushed.layers and _layers(registry, rows) == [EMPTY_LAYER]
        )
        assert [row.parent for row in rows] == [None, *(row.id for row in rows[:-1])]


@pytest.mark.slow
@law
@given(_CHAIN, st.integers(1, 3000))
def test_a_v1_push_comes_back_as_it_was(chain: list[V1Pushed], chunk: int) -> None:
    """Law (b): pulled by V2 and then by V1, ids, documents and layers are byte for byte what was pushed."""
    with fresh_registry() as registry:
        push_v1(registry, REPOSITORY, V1, chain, chunk)
        row = registry.manifests.find(REPOSITORY, V1)
        manifest = parse(row.media_type, registry.manifests.payload(row))
        (config,) = manifest.described(Role.CONFIG)
        stated = json.loads(read_blob(registry, REPOSITORY, config.digest))["rootfs"]["diff_ids"]
        found = [
            _inside(read_blob(registry, REPOSITORY, each.digest)) for each in manifest.described(Role.LAYER)
        ]
        assert [*map(str, found)] == stated
        wanted = [_inside(pushed.layer) for pushed in chain]
        kept = [diff_id for diff_id in wanted if diff_id not in empty_diff_ids()]
        assert found == (kept or wanted[:1])
        rows = _pulled_by_v1(registry, V1)
        assert [row.id for row in rows] == [pushed.id for pushed in chain]
        assert [registry.v1_images.json(row) for row in rows] == [pushed.json for pushed in chain]
        assert _layers(registry, rows) == [pushed.layer for pushed in chain]


@pytest.mark.slow
@law
@given(_IMAGE)
def test_a_v1_tag_keeps_the_manifest_that_v2_pushed(pushed: Image) -> None:
    """Law (c): an image that came by V2 and is tagged by V1 has the digest it had."""
    with fresh_registry() as registry:
        push_v2(registry, REPOSITORY, V2, pushed)
        registry.bridge.tag(REPOSITORY, AGAIN, registry.bridge.resolve(REPOSITORY, V2))
        row = registry.manifests.find(REPOSITORY, AGAIN)
        assert row.digest == pushed.digest
        assert registry.manifests.payload(row) == pushed.manifest
        assert registry.bridge.resolve(REPOSITORY, AGAIN) == registry.bridge.resolve(REPOSITORY, V2)


@pytest.mark.slow
@law
@given(_CHAIN, _IMAGE)
def test_conversion_is_a_function(chain: list[V1Pushed], pushed: Image) -> None:
    """Law (d): two registries that are given the same make the same of it, in whichever order and name."""
    results = []
    for names in ((REPOSITORY, RepositoryName("y")), (RepositoryName("z/z"), REPOSITORY)):
        with fresh_registry() as registry:
            first, second = names
            push_v1(registry, first, V1, chain)
            registry.bridge.tag(first, AGAIN, chain[0].id)
            push_v2(registry, second, V2, pushed)
            images = registry.bridge.images(second)
            documents = [
                registry.v1_images.json(registry.v1_images.get(second, image_id)) for image_id in images
            ]
            digests = [registry.manifests.find(first, tag).digest for tag in (V1, AGAIN)]
            results.append((digests, images, documents))
    assert results[0] == results[1]


@pytest.mark.slow
@law
@given(_IMAGE)
def test_derived_ids_can_be_worked_out_from_blobs(pushed: Image) -> None:
    """Law (e): ids, parents and documents of a derived chain follow from the config's bytes alone."""
    with fresh_registry() as registry:
        push_v2(registry, REPOSITORY, V2, pushed)
        rows = _pulled_by_v1(registry, V2)
        config = json.loads(pushed.config)
        diff_ids = [_inside(data) for data in pushed.layers or [EMPTY_LAYER]]
        chained: str | None = None
        parent: ImageId | None = None
        for row, diff_id in zip(rows, diff_ids, strict=True):
            chained = chain_id(chained, diff_id)
            top = row is rows[-1]
            wanted = ImageId(Digest.of(pushed.config).hex if top else chained.removeprefix("sha256:"))
            place = {"id": wanted} | ({"parent": parent} if parent else {})
            kept = {key: config[key] for key in config if key not in {"rootfs", "history"}}
            document = dict(sorted((kept | place).items())) if top else place
            assert (row.id, row.parent, row.diff_id) == (wanted, parent, diff_id)
            assert registry.v1_images.json(row) == dump(document)
            parent = wanted


@pytest.mark.slow
@law
@given(_CHAIN)
def test_pushing_again_changes_nothing(chain: list[V1Pushed]) -> None:
    """Tagging an image a second time finds the manifest of the first."""
    with fresh_registry() as registry:
        push_v1(registry, REPOSITORY, V1, chain)
        registry.bridge.tag(REPOSITORY, AGAIN, chain[-1].id)
        first, again = (registry.manifests.find(REPOSITORY, tag) for tag in (V1, AGAIN))
        assert first == again


@pytest.mark.slow
@law
@given(_CHAIN)
def test_an_old_client_carries_a_v1_image_on_whole(pushed: list[V1Pushed]) -> None:
    """Pulled as schema 1 and pushed to another registry, it is the same V1 image: ids, JSONs, contents."""
    with fresh_registry() as registry, fresh_registry() as other:
        push_v1(registry, REPOSITORY, V1, pushed)
        representation = registry.negotiation.find(REPOSITORY, V1, OLD)
        body = representation.read()
        for child in parse(representation.media_type, body).children:
            other.uploads.ingest(REPOSITORY, [read_blob(registry, REPOSITORY, child.descriptor.digest)])
        pushed_again = other.manifests.put(REPOSITORY, V1, representation.media_type, body)
        assert pushed_again.manifest.digest == representation.digest
        rows = _pulled_by_v1(other, V1)
        assert [row.id for row in rows] == [image.id for image in pushed]
        assert [other.v1_images.json(row) for row in rows] == [image.json for image in pushed]
        assert [row.diff_id for row in rows] == [_inside(image.layer) for image in pushed]
        assert other.negotiation.find(REPOSITORY, V1, OLD).read() == body
