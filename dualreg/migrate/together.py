"""Entries that are imported together: what is new of them, staged, and recorded after one wait for each step.

An entry that needs more than that, because something of it exists, is large or damaged, or is being read by
another thread, is left out: it is imported alone, by the services that care for all of it.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime

from dualreg.image.names import RepositoryName
from dualreg.migrate.base import Imported
from dualreg.migrate.journal import Journal
from dualreg.migrate.plan import Entry
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.stopping import Stopped
from dualreg.migrate.transfer import LARGE
from dualreg.registry import Registry
from dualreg.registry.imports import Additions, NotPlain
from dualreg.storage.bulk import Bulk

#: Files that a transaction records, about: it holds the lock of an SQLite catalog for so long.
_FILES = 400
#: The events that a journal announces before the steps are made, in their order.
_EVENTS = ("image", "blob", "manifest", "pointing")


@dataclass
class Together:
    """Entries that are imported in one step.

    Attributes:
        files: The files that the store gets.
        at: When that is.
        lines: What the journal says, by event.
        entries: What each becomes.
        held: The locks of what was read, until it is recorded.
    """

    registry: Registry
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
        return files > _FILES or self.read > LARGE

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
        return True


#: Imports the first of some entries, and returns what they became, and how many it has tried.
_Step = Callable[[Sequence[Entry]], tuple[Mapping[Entry, Imported], int]]


def import_in_steps(step: _Step, entries: Sequence[Entry]) -> Mapping[Entry, Imported]:
    """Import entries by one step after the other; return what became of those that were imported."""
    imported, left = dict[Entry, Imported](), entries
    with suppress(Stopped, NotPlain):  # then they are tried alone, each
        while left:
            found, tried = step(left)
            imported.update(found)
            left = left[tried:]
    return imported
