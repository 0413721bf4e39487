"""What a manifest leaves behind when it goes, and what an index holds although it came first."""

from dataclasses import replace

import pytest

from dualreg.catalog.database import Catalog
from dualreg.errors import BlobUnknown, ImageUnknown, ManifestInUse, TagUnknown
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.patterns import Reach
from dualreg.registry import Registry
from dualreg.registry.children import ManifestRules
from dualreg.registry.manifests import Manifests
from dualreg.storage.memory import MemoryStore
from tests import builders
from tests.properties.registries import push_v1, push_v2

NAME = RepositoryName("team/app")
ONE, TWO = Tag("one"), Tag("two")
LAYERS = [builders.layer({"f": bytes([number])}) for number in range(3)]
LOW, HIGH = builders.image(*LAYERS[:2]), builders.image(*LAYERS)


@pytest.fixture
def sparse(registry: Registry) -> Manifests:
    """The same registry's manifests, with indexes allowed to come first."""
    return replace(registry.manifests, rules=ManifestRules(sparse_indexes=True))


def v1_files(store: MemoryStore) -> list[str]:
    """Return the link files of V1 images."""
    return [path for path, _ in store.walk_links() if "/_v1/" in path]


def test_what_was_derived_goes_with_the_manifest(registry: Registry, store: MemoryStore) -> None:
    """V1 clients had seen it; then its layers can be deleted, and no file tells of the images."""
    push_v2(registry, NAME, ONE, LOW)
    top = registry.bridge.resolve(NAME, ONE)
    jsons = [row.json for row in registry.v1_images.ancestry(NAME, top)]
    assert len(v1_files(store)) == 2
    registry.manifests.delete(NAME, LOW.digest)
    with pytest.raises(ImageUnknown):
        registry.v1_images.get(NAME, top)
    assert v1_files(store) == []
    for json in jsons:
        with pytest.raises(BlobUnknown):
            registry.blobs.stat(NAME, json)
    for layer in LOW.layers:
        registry.blobs.delete(NAME, Digest.of(layer))


@pytest.mark.parametrize("first", [LOW, HIGH])
def test_what_another_image_needs_stays(registry: Registry, first: builders.Image) -> None:
    """Two images share layers: whichever goes, V1 clients pull the other one as before."""
    other = LOW if first is HIGH else HIGH
    for tag, image in ((ONE, first), (TWO, other)):
        push_v2(registry, NAME, tag, image)
    before = {
        tag: registry.v1_images.ancestry(NAME, registry.bridge.resolve(NAME, tag)) for tag in (ONE, TWO)
    }
    registry.manifests.delete(NAME, first.digest)
    assert registry.v1_images.ancestry(NAME, registry.bridge.resolve(NAME, TWO)) == before[TWO]
    registry.manifests.delete(NAME, other.digest)
    assert registry.v1_images.list(NAME) == ()


def test_what_a_client_pushed_stays(registry: Registry) -> None:
    """A V1 image is its client's; its manifest's end is not its own."""
    chain = builders.v1_chain(*LAYERS)
    push_v1(registry, NAME, ONE, chain)
    registry.manifests.delete(NAME, registry.manifests.find(NAME, ONE).digest)
    assert {*registry.v1_images.list(NAME)} == {image.id for image in chain}
    registry.bridge.tag(NAME, TWO, chain[-1].id)
    assert registry.bridge.resolve(NAME, TWO) == chain[-1].id


def test_a_derived_image_that_a_v1_client_tags_while_it_goes(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tag is refused rather than pointed at an image that is not there any more."""
    push_v2(registry, NAME, ONE, LOW)
    top = registry.bridge.resolve(NAME, ONE)
    ancestry = registry.v1_images.ancestry(NAME, top)
    registry.manifests.delete(NAME, LOW.digest)
    monkeypatch.setattr(type(registry.v1_images), "ancestry", lambda *_: ancestry)
    monkeypatch.setattr(type(registry.v1_images), "json", lambda *_: b'{"os": "linux"}')
    with pytest.raises(ImageUnknown):
        registry.bridge.tag(NAME, TWO, top)
    with pytest.raises(TagUnknown):
        registry.tags.delete(NAME, TWO)


@pytest.mark.parametrize("index_first", [True, False])
def test_an_index_holds_what_it_names(registry: Registry, sparse: Manifests, *, index_first: bool) -> None:
    """Whichever came first: what it names cannot be deleted before it, not even in two repositories."""
    index, other = builders.index(LOW, HIGH), RepositoryName("other")
    if not index_first:
        push_v2(registry, NAME, ONE, LOW)
    sparse.put(NAME, Tag("index"), media_types.OCI_INDEX, index)
    for repository in (NAME, other):
        push_v2(registry, repository, ONE, LOW)
    registry.manifests.delete(other, LOW.digest)
    with pytest.raises(ManifestInUse) as caught:
        registry.manifests.delete(NAME, LOW.digest)
    assert caught.value.referrers == [str(Digest.of(index))]
    registry.manifests.delete(NAME, Digest.of(index))
    registry.manifests.delete(NAME, LOW.digest)


def test_an_index_that_is_pushed_twice(registry: Registry, sparse: Manifests) -> None:
    """What came in between is its child once; what did not still can come."""
    index = builders.index(LOW, HIGH)
    for image in (LOW, HIGH):
        sparse.put(NAME, Tag("index"), media_types.OCI_INDEX, index)
        push_v2(registry, NAME, ONE, image)
    for image in (LOW, HIGH):
        with pytest.raises(ManifestInUse):
            registry.manifests.delete(NAME, image.digest)


def test_a_complete_index_is_seen_by_v1(registry: Registry, sparse: Manifests) -> None:
    """V1 clients see nothing of an index whose image is missing, and the image once it is there."""
    sparse.put(NAME, Tag("index"), media_types.OCI_INDEX, builders.index(LOW))
    with pytest.raises(TagUnknown):
        registry.bridge.resolve(NAME, Tag("index"))
    push_v2(registry, NAME, ONE, LOW)
    assert registry.bridge.resolve(NAME, Tag("index")) == registry.bridge.resolve(NAME, ONE)


@pytest.mark.parametrize("source", [None, RepositoryName("secret")])
def test_a_mount_tells_nothing_of_what_may_not_be_read(
    registry: Registry, catalog: Catalog, source: RepositoryName | None
) -> None:
    """A blob that only unreadable repositories hold is not there, and the target is not even made."""
    blob = registry.uploads.ingest(RepositoryName("secret"), [b"treasure"])

    def mount(*readable: str) -> bool:
        return registry.blobs.mount(NAME, blob.digest, source, reach=Reach((readable,)))

    assert mount("team/app", "public") is False
    with catalog.read() as tx:
        assert tx.repositories.find(NAME) is None
    registry.uploads.ingest(RepositoryName("public"), [b"treasure"])
    assert mount("public") is (source is None)
    assert mount("secret") is True
    assert registry.blobs.stat(NAME, blob.digest) == blob
