"""Entries that are imported together: what is new of them, staged, and recorded after one wait for each step.

An entry that needs more than that, because something of it exists, is large or damaged, or is being read by
another thread, is left out: it is imported alone, by the services that care for all of it.
"""

import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Generic, TypeVar

from dualreg.catalog.rows import BlobRow
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName
from dualreg.migrate.base import Imported
from dualreg.migrate.journal import Journal
from dualreg.migrate.plan import Entry
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.stopping import Stopped
from dualreg.migrate.transfer import LARGE
from dualreg.registry import Registry
from dualreg.registry.imports import Additions, NotPlain
from dualreg.storage.bulk import Bulk, Places

#: Files that a transaction records, about: it holds the lock of an SQLite catalog for so long.
FILES = 400
#: The events that a journal announces before the steps are made, in their order.
_EVENTS = ("image", "blob", "manifest", "pointing")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the steps before have recorded.

    Attributes:
        manifests: Each by the V1 image that it is seen as, or else by its own digest.
    """

    images: set[tuple[RepositoryName, ImageId]] = field(default_factory=set)
    manifests: dict[tuple[RepositoryName, ImageId | Digest], Digest] = field(default_factory=dict)

    def note(self, added: Additions) -> None:
        """Note what was recorded in a repository."""
        name = added.repository
        self.images.update((name, image) for image in added.images)
        self.manifests.update(((name, new.view or digest), digest) for digest, new in added.manifests.items())


@dataclass
class Together:
    """Entries that are imported in one step.

    Attributes:
        before: What need not be imported any more.
        files: The files that the store gets.
        at: When that is.
        lines: What the journal says, by event.
        entries: What each becomes.
        held: The locks of what was read, until it is recorded.
    """

    registry: Registry
    before: Recorded
    files: Bulk
    locks: KeyedLocks
    at: datetime
    additions: dict[RepositoryName, Additions] = field(default_factory=dict)
    lines: dict[str, list[Mapping[str, object]]] = field(default_factory=lambda: {e: [] for e in _EVENTS})
    entries: dict[Entry, Imported] = field(default_factory=dict)
    held: ExitStack = field(default_factory=ExitStack)
    read: int = 0

    def of(self, repository: RepositoryName) -> Additions:
        """Return what is new in a repository."""
        return self.additions.setdefault(repository, Additions(repository))

    def staged(self, digest: Digest) -> BlobRow | None:
        """Return a blob that was staged for this step, for whatever repository; None if it was not."""
        if digest not in self.files.published:
            return None
        sizes = (added.blobs.get(digest) for added in self.additions.values())
        return next((BlobRow(digest, size) for size in sizes if size is not None), None)

    def hold(self, key: Hashable) -> None:
        """Hold the lock of what is about to be read.

        Raises:
            NotPlain: another thread does.
        """
        lock = self.locks.lock(key)
        if not lock.acquire(blocking=False):
            raise NotPlain("another thread is reading it")
        self.held.callback(lock.release)

    def require_small(self, size: int) -> None:
        """Check that so many bytes may be read before what was read is recorded.

        Raises:
            NotPlain: they are too many.
        """
        if size > LARGE:
            raise NotPlain("it is large")
        self.read += size

    @property
    def is_full(self) -> bool:
        """Whether what is there should be recorded before more is read."""
        files = sum(
            2 * len(each.blobs) + len(each.images) + len(each.tags) for each in self.additions.values()
        )
        return files > FILES or self.read > LARGE

    def record(self, journal: Journal) -> bool:
        """Journal and record all of it; return False if it is not as new as it seemed: nothing is."""
        if not self.entries:
            return False

        def announce() -> None:
            for event, lines in self.lines.items():
                journal.write_all(event, lines, durable=event == _EVENTS[-1])

        try:
            self.registry.imports.record([*self.additions.values()], self.files, announce)
        except NotPlain:
            return False
        for added in self.additions.values():
            self.before.note(added)
        return True


_Step = TypeVar("_Step", bound=Together)


@dataclass
class Steps(Generic[_Step]):
    """Imports entries by one step after the other.

    Attributes:
        kind: The class of a step.
        stage: Stages what is new of the first of some entries, as many as fit into a step; returns how many
            it has looked at.
        note: Called with each step that was recorded, whose locks are still held.
        in_place: Whether the source is this registry's own storage.
    """

    registry: Registry
    journal: Journal
    locks: KeyedLocks
    kind: type[_Step]
    stage: Callable[[_Step, Sequence[Entry]], int]
    note: Callable[[_Step], None] = lambda _: None
    in_place: bool = False
    _places: Places | None = None
    _lock: Lock = field(default_factory=Lock)

    def run(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Imported]]:
        """Import entries, and yield what became of those that were imported.

        All entries of their repositories are among them: what was recorded is remembered until the end only.
        """
        left, recorded = entries, Recorded()
        with suppress(Stopped, NotPlain):  # then they are tried alone, each
            while left:
                tried, step = self._add(left, recorded)
                left = left[tried:]
                yield from step.entries.items() if step else ()

    def _add(self, entries: Sequence[Entry], recorded: Recorded) -> tuple[int, _Step | None]:
        """Import the first of *entries*; return how many were tried, and the step if that was recorded."""
        with Bulk(self._settled()) as files:
            step = self.kind(self.registry, recorded, files, self.locks, self.registry.now())
            with step.held:
                tried = self.stage(step, entries)
                if not step.record(self.journal):
                    return tried, None
                self.note(step)
        return tried, step

    def _settled(self) -> Places:
        """Return where the store keeps its files; what an import in place finds is on disk from then on."""
        with self._lock:
            if self._places is None:
                self._places = self.registry.imports.places()
                if self.in_place:
                    os.sync()
                    self._places.settled = True
            return self._places
