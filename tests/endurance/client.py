"""A client with repositories that it alone changes, so that it knows what each of its tags must name."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dualreg.image.digest import Digest
from tests.cuts.client import V1, V2
from tests.endurance.contents import Content, Maker, V2Image
from tests.endurance.wire import Interrupted, Kills, WatchedWire
from tests.protocol.clients.generation import V1_RELEASES
from tests.protocol.clients.wire import Answer, Refused

Result = TypeVar("Result")
#: How often a request is tried again whose process was killed.
_TRIES = 50
_REPOSITORIES, _TAGS = 3, 8
_MODES = ("stream", "chunks", "monolithic", "single")
#: What pushes are answered that name content which is gone.
_GONE = (400, 404)


@dataclass
class Tally:
    """What a client did and found.

    Attributes:
        acts: How often it did each thing.
        retried: Things that it did again because a process was killed.
        late: Pushes that took longer than content is promised to stay, and found it gone.
    """

    acts: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    late: int = 0


class Client:
    """A client over both APIs.

    Attributes:
        tags: What its tags name, by repository and tag.
        kept: The same of tags that it never changes.
        about: Referrers of the manifests that are tagged, by repository and subject.
        indexed: Manifests that were pushed as children, which cannot be deleted while their index exists.
        changes: An odd number while it changes something.
    """

    def __init__(self, host: str, name: str, seed: str, kills: Kills, promised: float) -> None:
        """Speak to *host*.

        Args:
            promised: For how many seconds content stays of which a client was told that it is present.
        """
        self.wire = WatchedWire(host, kills)
        self.v1, self.v2 = V1(self.wire), V2(self.wire)
        self.chance = random.Random(f"{seed} {name}")  # noqa: S311 -- to be repeatable
        self.make = Maker(seed, self.chance)
        self.tally = Tally()
        self.name, self.repositories = name, [f"{name}/{number}" for number in range(_REPOSITORIES)]
        self.tags: dict[tuple[str, str], Content] = {}
        self.kept: dict[tuple[str, str], Content] = {}
        self.about: defaultdict[tuple[str, Digest], set[Digest]] = defaultdict(set)
        self.indexed = set[tuple[str, Digest]]()
        self.changes = 0
        self._promised = promised

    # --- how

    def persist(self, act: Callable[[], Result]) -> Result:
        """Do something again until no process is killed meanwhile."""
        for _ in range(_TRIES):
            begun = time.monotonic()
            try:
                return act()
            except Interrupted:
                self.tally.retried += 1
            except Refused as refused:
                if refused.status not in _GONE or time.monotonic() - begun < self._promised:
                    raise
                self.tally.late += 1
        raise AssertionError(f"a process was killed at each of {_TRIES} tries")

    def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Send a request until it is answered."""
        return self.persist(lambda: self.wire.send(method, path, {}, body))

    def vary(self) -> None:
        """Be another release of Docker, and upload in another way."""
        self.v1.generation = self.chance.choice(V1_RELEASES)
        self.v2.mode = self.chance.choice(_MODES)

    # --- what

    def place(self) -> tuple[str, str]:
        """Return a repository and a tag, which may be new."""
        return self.chance.choice(self.repositories), f"t{self.chance.randrange(_TAGS)}"

    def some_tag(self, kind: type[Content] | None = None) -> tuple[str, str] | None:
        """Return a repository and a tag that it has; None: there is none of this kind."""
        found = [key for key, content in self.tags.items() if kind is None or isinstance(content, kind)]
        return self.chance.choice(found) if found else None

    def put(
        self, repository: str, tag: str, content: Content, before: Callable[[], None] = lambda: None
    ) -> None:
        """Push *content* as a tag, after *before*."""

        def push() -> None:
            before()
            content.push(self.v1, self.v2, repository, tag)

        self.persist(push)
        self.forget((repository, tag))
        self.tags[repository, tag] = content

    def keep(self, *contents: Content) -> None:
        """Push what stays."""
        for number, content in enumerate(contents):
            self.put(f"{self.name}/kept", f"k{number}", content)
        self.kept, self.tags = self.tags, {}

    def start_over(self) -> None:
        """Leave the repositories as they are, after a failure, and go on in others."""
        self.tags, self.about = {}, defaultdict(set)
        self.repositories = [f"{repository}x" for repository in self.repositories]

    def forget(self, *keys: tuple[str, str]) -> None:
        """Remember that tags are gone, and that referrers may follow a subject without tags."""
        for key in keys:
            self.tags.pop(key, None)
        tagged = {
            (repository, content.image.digest)
            for (repository, _), content in self.tags.items()
            if isinstance(content, V2Image)
        }
        for subject in [*self.about]:
            if subject not in tagged:
                del self.about[subject]

    def tags_of(self, repository: str) -> Sequence[str]:
        """Return the tags that a repository must have."""
        return sorted(tag for name, tag in self.tags if name == repository)
