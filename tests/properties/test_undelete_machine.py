"""A state machine of pushes, deletes, restorations and collections while time passes.

Whatever a tag left, by any deletion, is restored within the grace byte for byte, over the API that it was
pushed over. After the grace, nothing is left of it.
"""

from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import func, select

from dualreg.catalog.rows import QuotaRow
from dualreg.catalog.tables import (
    Blobs,
    DeletedBlobs,
    DeletedImages,
    DeletedManifests,
    DeletedRepositories,
    RepositoryBlobs,
)
from dualreg.errors import DeletedForGood, ImageExists, ManifestInUse, ManifestUnknown, RepositoryUnknown
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.v1_image import payload_hasher
from dualreg.maintenance.gc import Collection
from dualreg.registry.quotas import differences
from dualreg.registry.state import Retention
from tests.builders import V1Pushed, image, index, layer, v1_chain
from tests.conftest import Clock
from tests.properties.registries import fresh_registry, push_v2, read_blob
from tests.soak import short_or_long

GRACE, UNTAGGED, UNDELETE = timedelta(hours=24), timedelta(hours=30), timedelta(hours=72)
NAMES = [RepositoryName("x"), RepositoryName("library/y")]
TAGS = [Tag("a"), Tag("b")]
_LAYERS = [layer({"f": bytes([number])}) for number in range(3)]
IMAGES = [image(_LAYERS[0]), image(_LAYERS[0], _LAYERS[1], oci=True), image(_LAYERS[2])]
CHAINS = [v1_chain(_LAYERS[0], _LAYERS[1]), v1_chain(_LAYERS[0], _LAYERS[2], seed="other")]
#: Hours; most collections are within the grace of what was deleted before, and late enough to free its bytes.
PAUSES = st.sampled_from([1, 25, 26, 34, 73])
PICK = st.integers(0, 99)
Place = tuple[RepositoryName, Tag]
places = st.tuples(st.sampled_from(NAMES), st.sampled_from(TAGS))


@dataclass(frozen=True)
class Pointed:
    """What a tag pointed at: some images, which are one or those of an index, or a chain of V1 images."""

    digest: Digest
    images: tuple[int, ...] = ()
    chain: tuple[V1Pushed, ...] = ()


class Deletions(RuleBasedStateMachine):
    """Two repositories against a model of what their tags point at, and what they have left when."""

    untagged: timedelta | None = None

    def __init__(self) -> None:
        """Begin with an empty registry, whose clock stands still."""
        super().__init__()
        self._stack = ExitStack()
        self.clock = Clock()
        registry = self._stack.enter_context(fresh_registry(self.clock))
        retention = Retention(GRACE, self.untagged, None, UNDELETE)
        self.registry = registry.over(replace(registry.state, retention=retention))
        self.registry.quotas.set(QuotaRow("*", 1 << 40))
        self.tags: dict[Place, Pointed] = {}
        self.left: dict[Place, list[tuple[Pointed, datetime]]] = {}

    def teardown(self) -> None:
        """Restore what must be restorable, and let time pass until everything else must have gone."""
        try:
            self.collect(25, 2)  # which frees the bytes of what was deleted, were they not kept
            for place in [*self.left]:
                self.restore(place)
            self._end()
        finally:
            self._stack.close()

    @invariant()
    def _is_as_modelled(self) -> None:
        """Tags point at what they should; what is not here is not to be seen; quotas are exact."""
        for name in NAMES:
            with suppress(RepositoryUnknown):
                rows = self.registry.tags.describe(name, limit=9, reader=None).rows
                found = {(name, row.name): row.digest for row in rows}
                wanted = {place: at.digest for place, at in self.tags.items() if place[0] == name}
                assert found == wanted
        assert [*differences(self.registry.state.catalog)] == []

    # What clients and operators do

    @rule(place=places, chosen=st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True))
    def push(self, place: Place, chosen: list[int]) -> None:
        """Push an image, or an index of two."""
        name, tag = place
        for number in chosen:
            for digest, blob in IMAGES[number].blobs.items():
                self.registry.uploads.ingest(name, [blob], expected=digest)
            each = IMAGES[number]
            self.registry.manifests.put(name, each.digest, each.media_type, each.manifest)
        if len(chosen) == 1:
            push_v2(self.registry, name, tag, IMAGES[chosen[0]])
            self._point(place, Pointed(IMAGES[chosen[0]].digest, tuple(chosen)))
            return
        document = index(*(IMAGES[number] for number in chosen))
        self.registry.manifests.put(name, tag, media_types.OCI_INDEX, document)
        self._point(place, Pointed(Digest.of(document), tuple(chosen)))

    @rule(place=places, number=st.integers(0, 1))
    def push_over_v1(self, place: Place, number: int) -> None:
        """Push a chain of V1 images."""
        name, tag = place
        for each in CHAINS[number]:
            with suppress(ImageExists):  # a client asks before
                self._send(name, each)
        self.registry.bridge.tag(name, tag, CHAINS[number][-1].id)
        row = self.registry.manifests.peek(*place)
        assert row
        self._point(place, Pointed(row.digest, chain=tuple(CHAINS[number])))

    def _send(self, name: RepositoryName, pushed: V1Pushed) -> None:
        checksum = payload_hasher(pushed.json)
        checksum.update(pushed.layer)
        self.registry.v1_images.begin(name, pushed.id, pushed.json)
        self.registry.v1_images.put_layer(name, pushed.id, [pushed.layer])
        self.registry.v1_images.put_checksum(name, pushed.id, checksum.digest())

    @precondition(lambda self: self.tags)
    @rule(pick=PICK)
    def delete_tag(self, pick: int) -> None:
        """Delete a tag."""
        place = sorted(self.tags)[pick % len(self.tags)]
        self.registry.tags.delete(*place)
        self._leave(place)

    @precondition(lambda self: self.tags)
    @rule(pick=PICK)
    def delete_manifest(self, pick: int) -> None:
        """Delete what a tag points at, with all its tags."""
        place = sorted(self.tags)[pick % len(self.tags)]
        pointed = self.tags[place]
        with suppress(ManifestInUse):
            self.registry.manifests.delete(place[0], pointed.digest)
            for other, each in [*self.tags.items()]:
                if other[0] == place[0] and each.digest == pointed.digest:
                    self._leave(other)
            assert self.registry.manifests.peek(place[0], pointed.digest) is None

    @precondition(lambda self: self.tags)
    @rule(name=st.sampled_from(NAMES), v1=st.booleans())
    def delete_repository(self, name: RepositoryName, *, v1: bool) -> None:
        """Delete a repository, as V2 or as V1 clients do."""
        with suppress(RepositoryUnknown):
            (self.registry.tags.clear if v1 else self.registry.repositories.delete)(name)
            for place in [place for place in self.tags if place[0] == name]:
                self._leave(place)

    @precondition(lambda self: self.left)
    @rule(pick=PICK)
    def restore_one(self, pick: int) -> None:
        """Restore a tag to the last thing that it has left and does not point at now."""
        self.restore(sorted(self.left)[pick % len(self.left)])

    def restore(self, place: Place) -> None:
        """Do the same."""
        current = self.tags.get(place)
        left = [
            each for each in self.left.get(place, []) if current is None or each[0].digest != current.digest
        ]
        if not left:
            return
        pointed, at = left[-1]
        planned = self.registry.history.restoration(*place)
        assert planned.new == pointed.digest
        try:
            self.registry.history.restore(planned)
        except (ManifestUnknown, DeletedForGood):
            assert self.clock() >= at + UNDELETE
            return
        self._point(place, pointed)
        self._pull(place)

    @rule(name=st.sampled_from(NAMES))
    def restore_repository(self, name: RepositoryName) -> None:
        """Restore what went with a repository: every tag that was left within the grace, and not since."""
        try:
            planned = [*self.registry.history.repository_restoration(name)]
        except RepositoryUnknown:
            return
        found = self.registry.history.restore_repository(name)
        for each in planned:
            place = (name, each.tag)
            pointed, at = self.left[place][-1]
            assert each.new == pointed.digest
            if each.tag in found.lost:
                assert self.clock() >= at + UNDELETE
                continue
            self._point(place, pointed)
            self._pull(place)

    @precondition(lambda self: self.left)
    @rule(hours=PAUSES, times=st.integers(1, 2))
    def collect(self, hours: int, times: int) -> None:
        """Let time pass, and collect garbage, once or several times."""
        for _ in range(times):
            self.clock.advance(timedelta(hours=hours))
            Collection(self.registry).run()

    # The model

    def _point(self, place: Place, pointed: Pointed) -> None:
        if (current := self.tags.get(place)) and current.digest != pointed.digest:
            self._leave(place)
        self.tags[place] = pointed
        self.clock.advance(timedelta(seconds=1))

    def _leave(self, place: Place) -> None:
        self.left.setdefault(place, []).append((self.tags.pop(place), self.clock()))
        self.clock.advance(timedelta(seconds=1))

    def _pull(self, place: Place) -> None:
        """Pull what a tag points at, over the API that it was pushed over, and compare all bytes."""
        name, tag = place
        pointed = self.tags[place]
        row = self.registry.manifests.find(name, tag)
        assert row.digest == pointed.digest
        for number in pointed.images:
            found = self.registry.manifests.find(name, IMAGES[number].digest)
            assert self.registry.manifests.payload(found) == IMAGES[number].manifest
            assert found.media_type == IMAGES[number].media_type
            for digest, blob in IMAGES[number].blobs.items():
                assert read_blob(self.registry, name, digest) == blob
        if pointed.chain:
            assert self.registry.bridge.tags(name)[tag] == pointed.chain[-1].id
            rows = self.registry.v1_images.ancestry(name, pointed.chain[-1].id)
            assert [each.id for each in rows] == [each.id for each in reversed(pointed.chain)]
            for each, pushed in zip(rows, reversed(pointed.chain), strict=True):
                assert read_blob(self.registry, name, each.json) == pushed.json
                assert each.layer
                assert read_blob(self.registry, name, each.layer) == pushed.layer

    def _end(self) -> None:
        """Let all graces pass: what no repository has is gone, and what tags point at is there."""
        for _ in range(8):
            self.clock.advance(UNDELETE)
            Collection(self.registry).run()
        for place in self.tags:
            self._pull(place)
        with self.registry.state.catalog.read() as tx:
            counted = [
                tx.connection.scalar(select(func.count()).select_from(table))
                for table in (DeletedRepositories, DeletedManifests, DeletedImages, DeletedBlobs)
            ]
            linked = {*tx.connection.scalars(select(RepositoryBlobs.digest))}
            assert {*tx.connection.scalars(select(Blobs.digest))} == linked
        assert counted == [0, 0, 0, 0]
        assert {each.digest for each in self.registry.state.store.walk()} == linked


class DeletionsOfUntagged(Deletions):
    """The same, with manifests without a tag collected soon."""

    untagged = UNTAGGED


STEPS = settings(
    max_examples=int(short_or_long("8", "300")),
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.slow
class TestDeletions(Deletions.TestCase):
    """Manifests without a tag stay."""

    settings = STEPS


@pytest.mark.slow
class TestDeletionsOfUntagged(DeletionsOfUntagged.TestCase):
    """They are collected."""

    settings = STEPS
