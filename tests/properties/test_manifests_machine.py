"""A state machine of manifests and tags, pushed and deleted by both eras: no name ever leads to nothing."""

from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dualreg.errors import (
    BlobInUse,
    BlobUnknown,
    ImageExists,
    ManifestInUse,
    ManifestUnknown,
    ReferencesMissing,
    RepositoryUnknown,
    TagUnknown,
)
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.manifest import parse
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.children import ManifestRules
from tests.builders import Image, V1Pushed, image, index, layer, v1_chain
from tests.properties.registries import fresh_registry, push_v1, push_v2, read_blob
from tests.soak import short_or_long

NAMES = [RepositoryName("x"), RepositoryName("library/y")]
REPOSITORIES = st.sampled_from(NAMES)
TAGS = st.sampled_from([Tag("a"), Tag("B"), Tag("_")])
_LAYERS = [layer({"f": bytes([number])}) for number in range(3)]
#: Images that share layers; the last two share a config too, so that V1 clients see one image.
IMAGES = [
    image(_LAYERS[0]),
    image(_LAYERS[0], _LAYERS[1], oci=True),
    image(),
    image(_LAYERS[1], _LAYERS[2]),
    image(_LAYERS[1], _LAYERS[2], oci=True),
]
PICTURES = st.sampled_from(IMAGES)
BLOBS = st.sampled_from(sorted({digest for each in IMAGES for digest in each.blobs}))
CHAINS = st.sampled_from([v1_chain(_LAYERS[0], _LAYERS[1]), v1_chain(_LAYERS[2], seed="other")])
PICK = st.integers(0, 99)


class Registries(RuleBasedStateMachine):
    """Two repositories, against a model of which manifests they hold and where their tags point."""

    def __init__(self) -> None:
        """Begin with an empty registry."""
        super().__init__()
        self._stack = ExitStack()
        self.registry = self._stack.enter_context(fresh_registry())
        self.manifests: dict[tuple[RepositoryName, Digest], bytes] = {}
        self.tags: dict[tuple[RepositoryName, Tag], Digest] = {}

    def teardown(self) -> None:
        """Leave nothing behind."""
        self._stack.close()

    def _pushed(self, repository: RepositoryName, tag: Tag, payload: bytes) -> None:
        digest = Digest.of(payload)
        self.manifests[repository, digest] = payload
        self.tags[repository, tag] = digest

    def _readable(self, repository: RepositoryName, digest: Digest) -> bool:
        try:
            self.registry.blobs.stat(repository, digest)
        except BlobUnknown:
            return False
        return True

    def _seen_by_v1(self) -> set[tuple[RepositoryName, Tag]]:
        """Return the tags of images, and of indexes whose image for linux/amd64 is there."""
        seen = set()
        for (repository, tag), digest in self.tags.items():
            entries = parse("", self.manifests[repository, digest]).described(Role.MANIFEST)
            if not entries or (repository, entries[0].digest) in self.manifests:
                seen.add((repository, tag))
        return seen

    def _in_an_index(self, repository: RepositoryName, digest: Digest) -> bool:
        return any(
            digest in (child.digest for child in parse("", payload).described(Role.MANIFEST))
            for (name, _), payload in self.manifests.items()
            if name == repository
        )

    @rule(repository=REPOSITORIES, tag=TAGS, pushed=PICTURES)
    def push(self, repository: RepositoryName, tag: Tag, pushed: Image) -> None:
        """A whole image goes in, and its tag moves to it."""
        push_v2(self.registry, repository, tag, pushed)
        self._pushed(repository, tag, pushed.manifest)

    @rule(repository=REPOSITORIES, tag=TAGS, pushed=PICTURES)
    def push_manifest_alone(self, repository: RepositoryName, tag: Tag, pushed: Image) -> None:
        """A manifest whose blobs are not all there is refused, and the error lists those that are not."""
        missing = sorted(str(digest) for digest in pushed.blobs if not self._readable(repository, digest))
        if not missing:
            self.registry.manifests.put(repository, tag, pushed.media_type, pushed.manifest)
            self._pushed(repository, tag, pushed.manifest)
            return
        with pytest.raises(ReferencesMissing) as caught:
            self.registry.manifests.put(repository, tag, pushed.media_type, pushed.manifest)
        assert sorted(caught.value.digests) == missing

    @rule(repository=REPOSITORIES, tag=TAGS, entries=st.lists(PICTURES, min_size=1, max_size=2))
    def push_index(self, repository: RepositoryName, tag: Tag, entries: list[Image]) -> None:
        """An index goes in if its manifests are there, and only then."""
        payload = index(*entries)
        if all((repository, entry.digest) in self.manifests for entry in entries):
            self.registry.manifests.put(repository, tag, media_types.OCI_INDEX, payload)
            self._pushed(repository, tag, payload)
            return
        with pytest.raises(ReferencesMissing):
            self.registry.manifests.put(repository, tag, media_types.OCI_INDEX, payload)

    @rule(repository=REPOSITORIES, tag=TAGS, entries=st.lists(PICTURES, min_size=1, max_size=2))
    def push_sparse_index(self, repository: RepositoryName, tag: Tag, entries: list[Image]) -> None:
        """Where that is allowed, an index goes in before its manifests."""
        payload = index(*entries)
        sparse = replace(self.registry.manifests, rules=ManifestRules(sparse_indexes=True))
        sparse.put(repository, tag, media_types.OCI_INDEX, payload)
        self._pushed(repository, tag, payload)

    @rule(repository=REPOSITORIES, tag=TAGS, chain=CHAINS)
    def push_by_v1(self, repository: RepositoryName, tag: Tag, chain: list[V1Pushed]) -> None:
        """A V1 push ends in a manifest that everybody can pull; an image that is there is only tagged."""
        try:
            push_v1(self.registry, repository, tag, chain)
        except ImageExists:
            self.registry.bridge.tag(repository, tag, chain[-1].id)
        row = self.registry.manifests.find(repository, tag)
        self._pushed(repository, tag, self.registry.manifests.payload(row))
        assert self.registry.bridge.resolve(repository, tag) == chain[-1].id

    @precondition(lambda self: self._seen_by_v1())
    @rule(pick=PICK, tag=TAGS)
    def tag_by_v1(self, pick: int, tag: Tag) -> None:
        """What a V1 client tags again is a manifest that was there, and the same image to V1."""
        seen_tags = sorted(self._seen_by_v1())
        repository, known = seen_tags[pick % len(seen_tags)]
        seen = self.registry.bridge.resolve(repository, known)
        self.registry.bridge.tag(repository, tag, seen)
        found = self.registry.manifests.find(repository, tag)
        assert (repository, found.digest) in self.manifests
        self.tags[repository, tag] = found.digest
        assert self.registry.bridge.resolve(repository, tag) == seen

    @rule(repository=REPOSITORIES, tag=TAGS)
    def delete_tag(self, repository: RepositoryName, tag: Tag) -> None:
        """A tag goes alone; one that is not there is unknown."""
        if self.tags.pop((repository, tag), None) is None:
            with pytest.raises((TagUnknown, RepositoryUnknown)):
                self.registry.tags.delete(repository, tag)
        else:
            self.registry.tags.delete(repository, tag)

    @precondition(lambda self: self.manifests)
    @rule(pick=PICK)
    def delete_manifest(self, pick: int) -> None:
        """A manifest goes with its tags, unless an index names it."""
        repository, digest = sorted(self.manifests)[pick % len(self.manifests)]
        if self._in_an_index(repository, digest):
            with pytest.raises(ManifestInUse):
                self.registry.manifests.delete(repository, digest)
            return
        self.registry.manifests.delete(repository, digest)
        del self.manifests[repository, digest]
        self.tags = {
            (name, tag): target
            for (name, tag), target in self.tags.items()
            if (name, target) != (repository, digest)
        }
        with pytest.raises(ManifestUnknown):
            self.registry.manifests.find(repository, digest)

    @rule(repository=REPOSITORIES, digest=BLOBS)
    def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        """A blob that is not there, or that something names, stays as it is."""
        readable = self._readable(repository, digest)
        try:
            self.registry.blobs.delete(repository, digest)
        except BlobUnknown:
            assert not readable
        except BlobInUse:
            assert self._readable(repository, digest)
        else:
            assert not self._readable(repository, digest)

    @rule(digest=BLOBS, names=st.permutations(NAMES))
    def mount_blob(self, digest: Digest, names: list[RepositoryName]) -> None:
        """A blob of one repository becomes readable in the other."""
        source, target = names
        readable = self._readable(source, digest)
        assert self.registry.blobs.mount(target, digest, source) is readable
        assert self._readable(target, digest) or not readable

    @rule(repository=REPOSITORIES)
    def pull_by_v1(self, repository: RepositoryName) -> None:
        """V1 clients see every tag here, and whole chains of images under each."""
        tags = {tag for name, tag in self._seen_by_v1() if name == repository}
        seen = {}
        with suppress(RepositoryUnknown):
            seen = self.registry.bridge.tags(repository)
        assert set(seen) == tags
        for top in seen.values():
            for row in self.registry.v1_images.ancestry(repository, top):
                assert row.layer is not None
                assert Digest.of(read_blob(self.registry, repository, row.layer)) == row.layer
                assert Digest.of(self.registry.v1_images.json(row)) == row.json

    @invariant()
    def every_tag_resolves(self) -> None:
        """Tags lead to the manifests of the model, and are listed in byte order."""
        for (repository, tag), digest in self.tags.items():
            assert self.registry.manifests.find(repository, tag).digest == digest
        for repository in NAMES:
            listed = []
            with suppress(RepositoryUnknown):
                listed = [*self.registry.tags.list(repository).rows]
            assert listed == sorted(tag for name, tag in self.tags if name == repository)

    @invariant()
    def every_child_opens_and_hashes(self) -> None:
        """Whatever a manifest names can be read where the manifest can, and is what it says."""
        for (repository, digest), payload in self.manifests.items():
            row = self.registry.manifests.find(repository, digest)
            assert self.registry.manifests.payload(row) == payload
            for child in parse(row.media_type, payload).children:
                if (
                    child.role == Role.MANIFEST
                    and (repository, child.descriptor.digest) not in self.manifests
                ):
                    continue  # an index may come first
                data = read_blob(self.registry, repository, child.descriptor.digest)
                assert Digest.of(data) == child.descriptor.digest

    @invariant()
    def links_say_the_same(self) -> None:
        """The files beside the bytes name the same manifests and tags."""
        tree = self.registry.tags.state.links.tree
        found = {
            path: content.decode()
            for path, content in tree.walk_links()
            if path.endswith("/link") and "/_manifests/" in path
        }
        tags = {
            f"{repository}/_manifests/tags/{tag}/current/link": str(digest)
            for (repository, tag), digest in self.tags.items()
        }
        revisions = {
            f"{repository}/_manifests/revisions/{digest.algorithm}/{digest.hex}/link": str(digest)
            for repository, digest in self.manifests
        }
        assert found == tags | revisions

    @invariant()
    def nothing_is_left_staged(self) -> None:
        """Requests that are over, refused ones too, leave no bytes behind."""
        assert [*self.registry.uploads.state.store.staged()] == []


Registries.TestCase.settings = settings(
    max_examples=short_or_long(25, 1000),
    stateful_step_count=20,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestRegistries = Registries.TestCase
