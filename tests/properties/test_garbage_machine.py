"""A state machine of pushes, deletes, and collections while time passes.

What tags lead to, and what clients were told of, survives every collection; everything else goes.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dualreg.catalog.rows import QuotaRow
from dualreg.errors import (
    BlobInUse,
    BlobUnknown,
    ImageIncomplete,
    ImageUnknown,
    ManifestInUse,
    ManifestUnknown,
    RepositoryUnknown,
)
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.manifest import Manifest, parse
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.v1_image import payload_hasher
from dualreg.maintenance.gc import Collection
from dualreg.registry.accept import Accept, Agent
from dualreg.registry.quotas import differences
from dualreg.registry.state import Retention
from tests.builders import V1Pushed, descriptor, image, index, layer, v1_chain
from tests.conftest import Clock
from tests.properties.registries import fresh_registry
from tests.soak import short_or_long

GRACE, UNTAGGED = timedelta(hours=24), timedelta(hours=60)
NAMES = [RepositoryName("x"), RepositoryName("library/y")]
#: Patterns of quotas, of which two overlap.
QUOTAS = ["*", "library/*", "x"]
TAG_NAMES = [Tag("a"), Tag("b")]
_LAYERS = [layer({"f": bytes([number])}) for number in range(3)]
#: Images that share layers with each other and with the V1 images.
IMAGES = [image(_LAYERS[0]), image(_LAYERS[0], _LAYERS[1], oci=True), image(), image(_LAYERS[2])]
CHAINS = [v1_chain(_LAYERS[0], _LAYERS[1]), v1_chain(_LAYERS[2], seed="other")]
BLOBS = [*{blob: None for each in IMAGES for blob in each.blobs.values()}]

REPOSITORIES, TAGS = st.sampled_from(NAMES), st.sampled_from(TAG_NAMES)
#: Their numbers, which are easier to read in a failure.
PICTURES, FORKS = st.sampled_from(range(len(IMAGES))), st.sampled_from(range(len(CHAINS)))
DIGESTS, PICK = st.sampled_from(range(len(BLOBS))), st.integers(0, 99)
#: Hours after which a promise must be made again, and a manifest without a tag is about to go, or gone.
PAUSES = st.sampled_from([13, 25, 50, 61])
Place = tuple[RepositoryName, Digest]


def referrer(subject: bytes) -> bytes:
    """Return an OCI manifest about another one, whose config and layers are those of the empty image."""
    document = json.loads(image(oci=True).manifest)
    return json.dumps(document | {"subject": descriptor(parse("", subject).media_type, subject)}).encode()


class Collections(RuleBasedStateMachine):
    """Two repositories, against a model of what tags lead to and of what was promised until when."""

    def __init__(self) -> None:
        """Begin with an empty registry, whose clock stands still."""
        super().__init__()
        self._stack = ExitStack()
        self.clock = Clock()
        registry = self._stack.enter_context(fresh_registry(self.clock))
        self.registry = registry.over(replace(registry.state, retention=Retention(GRACE, UNTAGGED)))
        for pattern in QUOTAS:
            self.registry.quotas.set(QuotaRow(pattern, 1 << 40))
        self.manifests: dict[Place, Manifest] = {}
        self.tags: dict[tuple[RepositoryName, Tag], Digest] = {}
        self.promised: dict[Place, datetime] = {}
        self.told: dict[tuple[RepositoryName, ImageId], datetime] = {}

    def teardown(self) -> None:
        """Let time pass until everything that is garbage must have gone, and look at what is left."""
        try:
            self._settle()
        finally:
            self._stack.close()

    @invariant()
    def _counts(self) -> None:
        """What is recorded to be used of each quota is the size of the blobs that count for it."""
        assert [*differences(self.registry.state.catalog)] == []

    # What clients are told

    def _promise(self, repository: RepositoryName, digest: Digest, lasts: timedelta) -> None:
        until = self.clock() + lasts
        self.promised[repository, digest] = max(until, self.promised.get((repository, digest), until))

    def _is_promised(self, repository: RepositoryName, digest: Digest) -> bool:
        return self.promised.get((repository, digest), self.clock()) > self.clock()

    def _head(self, repository: RepositoryName, digest: Digest) -> bool:
        """Ask for a blob; return whether it is there, which is a promise then."""
        try:
            self.registry.blobs.stat(repository, digest)
        except BlobUnknown:
            assert not self._is_promised(repository, digest)
            return False
        self._promise(repository, digest, GRACE / 2)
        return True

    def _upload(self, repository: RepositoryName, blob: bytes) -> None:
        digest = Digest.of(blob)
        self.registry.uploads.ingest(repository, [blob], expected=digest)
        self._promise(repository, digest, GRACE)

    def _put(self, repository: RepositoryName, reference: Tag | Digest, kind: str, payload: bytes) -> None:
        """Push a manifest; the one that its tag pointed at is untagged from now on."""
        digest = self.registry.manifests.put(repository, reference, kind, payload).manifest.digest
        self._note(repository)
        self.manifests[repository, digest] = parse(kind, payload)
        self._promise(repository, digest, UNTAGGED)
        if isinstance(reference, Tag):
            self.tags[repository, reference] = digest

    def _note(self, repository: RepositoryName) -> None:
        """Take down that what is used at this moment stays for a while, should its use end now."""
        for digest in self._alive(repository):
            is_manifest = (repository, digest) in self.manifests
            self._promise(repository, digest, UNTAGGED if is_manifest else GRACE)

    def _alive(self, repository: RepositoryName) -> set[Digest]:
        """Return what the repository's tags lead to: manifests, what they name, and what is about them."""
        held = {digest: each for (name, digest), each in self.manifests.items() if name == repository}
        found = set[Digest]()
        rest = [digest for (name, _), digest in self.tags.items() if name == repository]
        while rest:
            digest = rest.pop()
            if digest in found:
                continue
            found.add(digest)
            if digest in held:
                rest += [child.descriptor.digest for child in held[digest].children]
                rest += [about for about, each in held.items() if _subject(each) == digest]
        return found

    # What clients do

    @rule(repository=REPOSITORIES, tag=TAGS, picture=PICTURES, by_digest=st.booleans())
    def push(self, repository: RepositoryName, tag: Tag, picture: int, *, by_digest: bool) -> None:
        """A client sends only what it is not told to be there; the manifest is taken."""
        pushed = IMAGES[picture]
        for digest, blob in pushed.blobs.items():
            if not self._head(repository, digest):
                self._upload(repository, blob)
        self._put(repository, pushed.digest if by_digest else tag, pushed.media_type, pushed.manifest)

    @rule(repository=REPOSITORIES, tag=TAGS, picture=PICTURES, hours=PAUSES)
    def push_slowly(self, repository: RepositoryName, tag: Tag, picture: int, hours: int) -> None:
        """A client goes on after a pause, asks again, and pauses once more; what it was told holds."""
        pushed = IMAGES[picture]
        for blob in pushed.blobs.values():
            self._upload(repository, blob)
        self._pass(hours)
        for digest, blob in pushed.blobs.items():
            if not self._head(repository, digest):
                self._upload(repository, blob)
        self._pass(11)
        self._put(repository, tag, pushed.media_type, pushed.manifest)

    @rule(repository=REPOSITORIES, tag=TAGS, picture=PICTURES, hours=PAUSES)
    def push_an_index_slowly(self, repository: RepositoryName, tag: Tag, picture: int, hours: int) -> None:
        """So it is with the manifests of an index, which have no tag."""
        pushed = IMAGES[picture]
        self.push(repository, tag, picture, by_digest=True)
        self._pass(hours)
        if not self._find(repository, pushed.digest):
            self.push(repository, tag, picture, by_digest=True)
        self._pass(11)
        self._put(repository, tag, media_types.OCI_INDEX, index(pushed))

    def _find(self, repository: RepositoryName, digest: Digest) -> bool:
        """Ask for a manifest by its digest; return whether it is there, which is a promise then."""
        try:
            self.registry.manifests.find(repository, digest)
        except ManifestUnknown:
            assert not self._is_promised(repository, digest)
            return False
        self._promise(repository, digest, GRACE / 2)
        return True

    def _pass(self, hours: int) -> None:
        """Let time pass, and collect what is garbage then."""
        self.wait(hours)
        self.collect(full=False)

    @rule(repository=REPOSITORIES, blob=DIGESTS)
    def upload(self, repository: RepositoryName, blob: int) -> None:
        """A blob arrives that no manifest need ever name."""
        self._upload(repository, BLOBS[blob])

    @rule(repository=REPOSITORIES, blob=DIGESTS)
    def ask(self, repository: RepositoryName, blob: int) -> None:
        """A client asks for a blob."""
        self._head(repository, Digest.of(BLOBS[blob]))

    @rule(blob=DIGESTS, names=st.permutations(NAMES))
    def mount(self, blob: int, names: list[RepositoryName]) -> None:
        """A blob of one repository is promised in the other."""
        digest = Digest.of(BLOBS[blob])
        if self.registry.blobs.mount(names[1], digest, names[0]):
            self._promise(names[1], digest, GRACE)
        else:
            assert not self._is_promised(names[0], digest)

    @rule(repository=REPOSITORIES, tag=TAGS, pictures=st.lists(PICTURES, min_size=1, max_size=2))
    def push_index(self, repository: RepositoryName, tag: Tag, pictures: list[int]) -> None:
        """An index keeps its manifests, which were promised."""
        entries = [IMAGES[picture] for picture in pictures]
        if all(self._is_promised(repository, entry.digest) for entry in entries):
            self._put(repository, tag, media_types.OCI_INDEX, index(*entries))

    @precondition(lambda self: self.manifests)
    @rule(pick=PICK)
    def push_referrer(self, pick: int) -> None:
        """A manifest about another lives with it."""
        repository, digest = sorted(self.manifests)[pick % len(self.manifests)]
        payload = referrer(self.manifests[repository, digest].payload)
        (config,) = image(oci=True).blobs.values()
        self._upload(repository, config)
        self._put(repository, Digest.of(payload), media_types.OCI_MANIFEST, payload)

    @precondition(lambda self: self.tags)
    @rule(pick=PICK)
    def untag(self, pick: int) -> None:
        """A tag goes alone."""
        repository, tag = sorted(self.tags)[pick % len(self.tags)]
        self._note(repository)
        self.registry.tags.delete(repository, tag)
        del self.tags[repository, tag]

    @precondition(lambda self: self.manifests)
    @rule(pick=PICK)
    def delete_manifest(self, pick: int) -> None:
        """A manifest goes with its tags, unless an index names it; what it named stays for the grace."""
        repository, digest = sorted(self.manifests)[pick % len(self.manifests)]
        self._note(repository)
        try:
            self.registry.manifests.delete(repository, digest)
        except ManifestInUse:
            return
        except (ManifestUnknown, RepositoryUnknown):
            assert not self._is_promised(repository, digest)
        for child in self.manifests.pop((repository, digest)).children:
            if self._is_promised(repository, child.descriptor.digest):
                self._promise(repository, child.descriptor.digest, GRACE)
        self.promised.pop((repository, digest), None)
        self.tags = {at: to for at, to in self.tags.items() if (at[0], to) != (repository, digest)}

    @rule(repository=REPOSITORIES, blob=DIGESTS)
    def delete_blob(self, repository: RepositoryName, blob: int) -> None:
        """A blob that is deleted is promised no longer."""
        digest = Digest.of(BLOBS[blob])
        with suppress(BlobUnknown, BlobInUse):
            self.registry.blobs.delete(repository, digest)
            self.promised.pop((repository, digest), None)

    @rule(repository=REPOSITORIES)
    def delete_repository(self, repository: RepositoryName) -> None:
        """A repository goes with everything; others keep what they share with it."""
        with suppress(RepositoryUnknown):
            self.registry.repositories.delete(repository)
        for known in (self.manifests, self.tags, self.promised, self.told):
            for place in [place for place in known if place[0] == repository]:
                del known[place]  # type: ignore[attr-defined]  # each has keys of its own type

    # What clients of V1 do

    @rule(repository=REPOSITORIES, chain=FORKS, count=st.integers(1, 2), whole=st.booleans())
    def push_v1_images(self, repository: RepositoryName, chain: int, count: int, *, whole: bool) -> None:
        """A client sends the images that it is not told to be there, and may end before their tag."""
        for each in CHAINS[chain][:count]:
            if not self._probe(repository, each):
                self._send(repository, each, whole=whole)
                if not whole:
                    return

    def _probe(self, repository: RepositoryName, pushed: V1Pushed) -> bool:
        try:
            self.registry.v1_images.promise(repository, pushed.id)
        except (ImageIncomplete, ImageUnknown):
            assert self.told.get((repository, pushed.id), self.clock()) <= self.clock()
            return False
        self._tell(repository, pushed, GRACE / 2)
        return True

    def _tell(self, repository: RepositoryName, pushed: V1Pushed, lasts: timedelta) -> None:
        until = self.clock() + lasts
        self.told[repository, pushed.id] = max(until, self.told.get((repository, pushed.id), until))

    def _send(self, repository: RepositoryName, pushed: V1Pushed, *, whole: bool) -> None:
        images, checksum = self.registry.v1_images, payload_hasher(pushed.json)
        images.begin(repository, pushed.id, pushed.json)
        images.put_layer(repository, pushed.id, [pushed.layer])
        if whole:
            checksum.update(pushed.layer)
            images.put_checksum(repository, pushed.id, checksum.digest())
            self._tell(repository, pushed, GRACE)

    @rule(repository=REPOSITORIES, tag=TAGS, chain=FORKS, hours=PAUSES)
    def push_v1_slowly(self, repository: RepositoryName, tag: Tag, chain: int, hours: int) -> None:
        """A client of V1 goes on after a pause, asks again, and takes its time before the tag."""
        self.push_v1_images(repository, chain, 2, whole=True)
        self._pass(hours)
        self.push_v1_images(repository, chain, 2, whole=True)
        self._pass(11)
        self.tag_v1(repository, tag, chain)

    @rule(repository=REPOSITORIES, tag=TAGS, chain=FORKS)
    def tag_v1(self, repository: RepositoryName, tag: Tag, chain: int) -> None:
        """Images that were promised can be tagged; V2 clients get a manifest of them."""
        ids = [each.id for each in CHAINS[chain]]
        if any(self.told.get((repository, each), self.clock()) <= self.clock() for each in ids):
            return
        self._note(repository)
        self.registry.bridge.tag(repository, tag, ids[-1])
        row = self.registry.manifests.find(repository, tag)
        payload = self.registry.manifests.payload(row)
        self.manifests[repository, row.digest] = parse(row.media_type, payload)
        self.tags[repository, tag] = row.digest
        self._promise(repository, row.digest, UNTAGGED)
        assert [*self.registry.v1_images.ancestry(repository, ids[-1])]

    @rule(repository=REPOSITORIES)
    def pull_by_old_clients(self, repository: RepositoryName) -> None:
        """V1 clients see images, and Docker 1.9 gets schema 1, both of which are derived and stored."""
        with suppress(RepositoryUnknown):
            self.registry.bridge.tags(repository)
        old = Accept(agent=Agent(schema1_by_default=True))
        for name, tag in self.tags:
            if name == repository:
                with suppress(ManifestUnknown):
                    self.registry.negotiation.find(repository, tag, old)

    # Time and collections

    @rule(hours=st.sampled_from([1, 6, 11, 13, 25, 61]))
    def wait(self, hours: int) -> None:
        """Time passes."""
        for repository in NAMES:
            self._note(repository)
        self.clock.advance(timedelta(hours=hours))

    @rule(full=st.booleans())
    def collect(self, *, full: bool) -> None:
        """A collection leaves everything that tags lead to, and everything that was promised."""
        Collection(self.registry).run(full=full)
        for repository in NAMES:
            self._check_alive(repository)
        for (repository, digest), until in self.promised.items():
            if until > self.clock():
                self._check_kept(repository, digest)
        for (repository, image_id), until in self.told.items():
            if until > self.clock():
                assert self.registry.v1_images.get(repository, image_id)
        self._forget_collected()

    def _check_kept(self, repository: RepositoryName, digest: Digest) -> None:
        """Look at a blob as the catalog has it, which promises nothing."""
        with self.registry.state.catalog.read() as tx:
            assert tx.blobs.find(repository, digest), f"{repository}@{digest} was promised"
            assert (repository, digest) not in self.manifests or tx.manifests.find(repository, digest)

    def _check_alive(self, repository: RepositoryName) -> None:
        for digest in self._alive(repository):
            with self.registry.state.catalog.read() as tx:
                found = tx.blobs.find(repository, digest)
            assert found, f"{repository}@{digest} is in use"
            with self.registry.blobs.open(digest) as reader:
                assert Digest.of(reader.read()) == digest

    def _forget_collected(self) -> None:
        """Drop the manifests from the model that had no tag and are gone."""
        for repository, digest in [*self.manifests]:
            if self.registry.manifests.peek(repository, digest) is None:
                del self.manifests[repository, digest]

    def _settle(self) -> None:
        """Collect until all that is garbage must have gone; only what tags lead to is left."""
        self.collect(full=False)
        for _ in range(12):  # an index of manifests of layers that V1 images share, each for both times
            self.wait(61)
            self.collect(full=False)
        derived = {digest for repository in NAMES for digest in self._derived(repository)}
        alive = {digest for repository in NAMES for digest in self._alive(repository)}
        stored = {blob.digest for blob in self.registry.state.store.walk()}
        assert stored - derived == alive - derived
        assert derived <= stored

    def _derived(self, repository: RepositoryName) -> Iterator[Digest]:
        """Yield what clients of old see what is alive as, whether they pushed it or it was made for them."""
        for digest in self._alive(repository):
            with self.registry.state.catalog.read() as tx:
                row = tx.manifests.find(repository, digest)
                view = row and tx.views.find(row.repository_id, digest)
            made = self.registry.derived.blobs(repository, digest) if row else ()
            yield from (blob.digest for blob in made)
            for schema1 in self.registry.manifests.peek_all(repository, [blob.digest for blob in made]):
                if signed := self.registry.manifests.signed(schema1):
                    yield signed.digest
            for image_row in self.registry.v1_images.peek_ancestry(repository, ImageId(view)) if view else ():
                yield from filter(None, (image_row.json, image_row.layer))


def _subject(manifest: Manifest) -> Digest | None:
    return manifest.subject.digest if manifest.subject else None


Collections.TestCase.settings = settings(
    max_examples=short_or_long(20, 3000),
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestCollections = Collections.TestCase
