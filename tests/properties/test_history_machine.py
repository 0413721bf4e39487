"""A state machine of pushes over V1 and V2, deletes and restores: the history has all of it, and no more."""

from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dualreg.acting import Api, acting
from dualreg.errors import ManifestInUse, ManifestUnknown, NotRestorable, RepositoryUnknown, TagUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from tests.builders import image, layer, v1_chain
from tests.conftest import Clock
from tests.properties.registries import fresh_registry, push_v1, push_v2
from tests.soak import short_or_long

NAMES, TAG_NAMES = [RepositoryName("x"), RepositoryName("library/y")], [Tag("a"), Tag("b")]
LAYERS = [layer({"f": bytes([number])}) for number in range(3)]
IMAGES = [image(LAYERS[0]), image(LAYERS[1], oci=True)]
CHAINS = [v1_chain(LAYERS[0], LAYERS[1]), v1_chain(LAYERS[2], seed="other")]
REPOSITORIES, TAGS = st.sampled_from(NAMES), st.sampled_from(TAG_NAMES)
WHO = st.sampled_from(["alice", "bob", ""])
Place = tuple[RepositoryName, Tag]


class Move(NamedTuple):
    """What the model says of a move."""

    at: datetime
    actor: str
    api: str
    old: Digest | None
    new: Digest | None


class Histories(RuleBasedStateMachine):
    """Two repositories, against a model of what tags point at and of each move."""

    def __init__(self) -> None:
        """Begin with an empty registry, whose clock moves by a second with each act."""
        super().__init__()
        self._stack = ExitStack()
        self.clock = Clock()
        self.registry = self._stack.enter_context(fresh_registry(self.clock))
        self.tags: dict[Place, Digest] = {}
        self.manifests: set[tuple[RepositoryName, Digest]] = set()
        self.moves: dict[Place, list[Move]] = {(name, tag): [] for name in NAMES for tag in TAG_NAMES}

    def teardown(self) -> None:
        """Close the registry."""
        self._stack.close()

    def _moved(self, place: Place, new: Digest | None, who: str, api: Api) -> None:
        old = self.tags.get(place)
        if old != new:
            self.moves[place].append(Move(self.clock(), who, api, old, new))
        self.tags.pop(place, None)
        if new:
            self.tags[place] = new
            self.manifests.add((place[0], new))

    def _known(self, name: RepositoryName, tag: Tag) -> Digest | None:
        row = self.registry.manifests.peek(name, tag)
        return row and row.digest

    @rule(name=REPOSITORIES, tag=TAGS, who=WHO, number=st.sampled_from(range(len(IMAGES))))
    def push(self, name: RepositoryName, tag: Tag, who: str, number: int) -> None:
        """Push over V2, or again what is there."""
        with acting(who, Api.V2):
            push_v2(self.registry, name, tag, IMAGES[number])
        self._moved((name, tag), IMAGES[number].digest, who, Api.V2)

    @rule(name=REPOSITORIES, who=WHO, number=st.sampled_from(range(len(IMAGES))))
    def push_both(self, name: RepositoryName, who: str, number: int) -> None:
        """Push under several tags at once."""
        pushed = IMAGES[number]
        with acting(who, Api.V2):
            push_v2(self.registry, name, TAG_NAMES[0], pushed)
            digest = self.registry.manifests.put(
                name, TAG_NAMES[0], pushed.media_type, pushed.manifest, tags=TAG_NAMES
            ).manifest.digest
        for tag in TAG_NAMES:
            self._moved((name, tag), digest, who, Api.V2)

    @rule(name=REPOSITORIES, number=st.sampled_from(range(len(IMAGES))))
    def push_by_digest(self, name: RepositoryName, number: int) -> None:
        """A manifest that is pushed without a tag moves none."""
        pushed = IMAGES[number]
        for digest, blob in pushed.blobs.items():
            self.registry.uploads.ingest(name, [blob], expected=digest)
        found = self.registry.manifests.put(name, pushed.digest, pushed.media_type, pushed.manifest)
        self.manifests.add((name, found.manifest.digest))

    @rule(name=REPOSITORIES, tag=TAGS, who=WHO, number=st.sampled_from(range(len(CHAINS))))
    def push_v1(self, name: RepositoryName, tag: Tag, who: str, number: int) -> None:
        """Push over V1."""
        with acting(who, Api.V1):
            if (known := self.registry.v1_images.peek(name, CHAINS[number][-1].id)) and known.complete:
                self.registry.bridge.tag(name, tag, CHAINS[number][-1].id)
            else:
                push_v1(self.registry, name, tag, CHAINS[number])
        self._moved((name, tag), self._known(name, tag), who, Api.V1)

    @rule(name=REPOSITORIES, tag=TAGS, who=WHO)
    def delete_tag(self, name: RepositoryName, tag: Tag, who: str) -> None:
        """Delete a tag, as both APIs do."""
        with suppress(RepositoryUnknown, TagUnknown), acting(who, Api.V2):
            self.registry.tags.delete(name, tag)
        self._moved((name, tag), None, who, Api.V2)

    @rule(name=REPOSITORIES, tag=TAGS, who=WHO)
    def delete_manifest(self, name: RepositoryName, tag: Tag, who: str) -> None:
        """Delete what a tag points at, with all tags that do."""
        digest = self.tags.get((name, tag))
        if digest is None:
            return
        with suppress(ManifestUnknown, ManifestInUse), acting(who, Api.V2):
            self.registry.manifests.delete(name, digest)
        for place in [place for place, found in self.tags.items() if place[0] == name and found == digest]:
            self._moved(place, None, who, Api.V2)
        self.manifests.discard((name, digest))

    @rule(name=REPOSITORIES, who=WHO, whole=st.booleans())
    def delete_all(self, name: RepositoryName, who: str, *, whole: bool) -> None:
        """Delete all tags of a repository, or the repository itself."""
        with suppress(RepositoryUnknown), acting(who, Api.V1):
            (self.registry.repositories.delete if whole else self.registry.tags.clear)(name)
        for tag in TAG_NAMES:
            self._moved((name, tag), None, who, Api.V1)
        if whole:
            self.manifests = {place for place in self.manifests if place[0] != name}

    @rule(name=REPOSITORIES, tag=TAGS, who=WHO, back=st.integers(0, 9), by_time=st.booleans())
    def restore(self, name: RepositoryName, tag: Tag, who: str, back: int, *, by_time: bool) -> None:
        """Restore what a tag pointed at last, or at some time, if the model says that it can be."""
        place = (name, tag)
        past, current = self.moves[place], self.tags.get(place)
        at = self.clock() - timedelta(seconds=back) if by_time else None
        if at:
            expected = next((move.new for move in reversed(past) if move.at <= at), None)
        else:
            expected = next((move.old for move in reversed(past) if move.old not in (None, current)), None)
        if expected == current:
            expected = None
        try:
            with acting(who, Api.COMMAND):
                planned = self.registry.history.restoration(name, tag, at=at)
                assert planned[2:4] == (current, expected)
                self.registry.history.restore(planned)
        except (NotRestorable, ManifestUnknown):
            assert expected is None or (name, expected) not in self.manifests
            return
        self._moved(place, expected, who, Api.COMMAND)

    @rule()
    def wait(self) -> None:
        """Let some time pass."""
        self.clock.advance(timedelta(seconds=3))

    @invariant()
    def agrees(self) -> None:
        """Tags, and the history of each, are those of the model; and the clock moves on."""
        for (name, tag), past in self.moves.items():
            assert self._known(name, tag) == self.tags.get((name, tag))
            rows = self.registry.history.page(name, tag, limit=1000).rows
            assert [Move(row.at, row.actor, row.api, row.old, row.new) for row in rows] == past[::-1]
            if past and past[-1].new:
                seen_over = {Api.V1: "v1", Api.V2: "v2"}.get(Api(past[-1].api))
                assert seen_over in (None, rows[0].origin)
        self.clock.advance(timedelta(seconds=1))


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=int(short_or_long("25", "400")),
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[*HealthCheck],
)
