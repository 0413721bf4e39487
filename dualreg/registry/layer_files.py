"""Layer files: what a layer has, and what it changes in the layers below, for people who look at it.

What clients pushed may be hostile, or just large: how much is read and kept for one question is bounded. One
question at a time is answered in each process, and few wait for that, so that all else goes on.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import NamedTuple

from cachetools import TTLCache

from dualreg.errors import BlobDamaged, BlobMissing, ImageInvalid
from dualreg.image.digest import Digest
from dualreg.image.entries import Entry, entries, memory_of
from dualreg.image.layer_changes import Change, changes
from dualreg.image.names import RepositoryName
from dualreg.registry.state import State
from dualreg.storage.base import read_chunks
from dualreg.waiting import WorkSlots

#: Questions that are answered at once, threads that wait for that, and for how many seconds.
_AT_ONCE, _WAITING, _PATIENCE = 1, 2, 2.0
#: What an entry that is kept takes in memory besides its names, about, in bytes.
_ENTRY_SIZE = 400
#: For how many seconds an answer is kept, so that its pages are those of one list.
_KEPT_FOR = 600


class Limits(NamedTuple):
    """How much is done for one question.

    Attributes:
        seconds: For how long layers are read.
        inflated: How many bytes they uncompress to.
        entries: How many entries are kept.
        names: How many bytes their names take in memory, all together.
    """

    seconds: float = 10.0
    inflated: int = 8 << 30
    entries: int = 100_000
    names: int = 16 << 20


_LIMITS = Limits()


class FoundEntry(NamedTuple):
    """An entry of a layer; *change* is what the layer does by it, None: that was not asked."""

    entry: Entry
    change: Change | None


@dataclass(frozen=True, slots=True)
class LayerContents:
    """What was found in a layer.

    Attributes:
        rows: In the order of the archive or, of changes, by path.
        incomplete: Why there is more than that, as a sentence; empty: there is not.
    """

    rows: Sequence[FoundEntry]
    incomplete: str = ""

    @property
    def size(self) -> int:
        """About how many bytes this takes in memory."""
        names = sum(memory_of(entry.path, entry.target) for entry, _ in self.rows)
        return names + _ENTRY_SIZE * (len(self.rows) + 1)


class _Exhausted(Exception):
    """A limit was reached; the text says which one, of "it"."""


@dataclass(slots=True)
class _Effort:
    """What one question has taken so far; raises _Exhausted if that is more than it may."""

    limits: Limits
    until: float
    inflated: int = 0
    entries: int = 0
    names: int = 0

    def read(self, size: int) -> None:
        """Count the bytes of a piece that was uncompressed."""
        self.inflated += size
        if self.inflated > self.limits.inflated:
            raise _Exhausted(f"more than {self.limits.inflated >> 30} GiB")
        if monotonic() > self.until:
            raise _Exhausted(f"reading takes more than {self.limits.seconds:.0f} seconds")

    def keep(self, entries_: int, names: int) -> None:
        """Count entries that are kept, and bytes of their names."""
        self.entries += entries_
        self.names += names
        if self.entries > self.limits.entries:
            raise _Exhausted(f"more than {self.limits.entries} entries")
        if self.names > self.limits.names:
            raise _Exhausted(f"names of more than {self.limits.names >> 20} MiB")


def _kept() -> TTLCache[tuple[object, ...], LayerContents]:
    """Return a memory in which the largest answer has room."""
    room = _LIMITS.names + _ENTRY_SIZE * (_LIMITS.entries + 1)
    return TTLCache(room, _KEPT_FOR, getsizeof=lambda contents: contents.size)


@dataclass(frozen=True, slots=True)
class LayerFiles:
    """Finds what layers have; what was found is kept for some minutes, and nothing is changed."""

    state: State
    limits: Limits = _LIMITS
    slots: WorkSlots = field(default_factory=lambda: WorkSlots(_AT_ONCE, _WAITING, _PATIENCE))
    _known: TTLCache[tuple[object, ...], LayerContents] = field(default_factory=_kept)
    _lock: Lock = field(default_factory=Lock)

    def files(self, repository: RepositoryName, layer: Digest) -> LayerContents:
        """Return what a layer has.

        Raises:
            ServerBusy: other layers are being read.
        """
        return self._answer(repository, "files", [layer], self._list)

    def changes(self, repository: RepositoryName, layers: Sequence[Digest]) -> LayerContents:
        """Return what the last one of *layers* changes in the others; none if they are too large for that.

        Args:
            layers: The base first.

        Raises:
            ServerBusy: as ``files``.
        """
        return self._answer(repository, "changes", layers, self._compare)

    def _answer(
        self,
        repository: RepositoryName,
        question: str,
        layers: Sequence[Digest],
        find: Callable[[Sequence[Digest]], LayerContents],
    ) -> LayerContents:
        """Return what is kept as the answer, or find it."""
        if lacking := self._lacking(repository, layers):
            what = "It is loaded from another registry when a client pulls it, or is kept elsewhere."
            return LayerContents((), f"Layer {lacking} is not in this repository. {what}")
        key = (question, *layers)
        if found := self._find(key):
            return found
        with self.slots.slot():
            found = self._find(key) or find(layers)
        with self._lock:
            self._known[key] = found
        return found

    def _find(self, key: tuple[object, ...]) -> LayerContents | None:
        with self._lock:
            return self._known.get(key)

    def _lacking(self, repository: RepositoryName, layers: Sequence[Digest]) -> Digest | None:
        """Return the first layer that the repository may not read."""
        with self.state.catalog.read() as tx:
            known = tx.blobs.known(repository, layers)
        return next((each for each in layers if each not in known or not known[each][1]), None)

    def _list(self, layers: Sequence[Digest]) -> LayerContents:
        effort, found, incomplete = self._effort(), list[FoundEntry](), ""
        try:
            for entry in self._read(layers[0], effort):
                effort.keep(1, memory_of(entry.path, entry.target))
                found.append(FoundEntry(entry, None))
        except _Exhausted as limit:
            incomplete = f"The layer is too large to list all of it: {limit}."
        except (ImageInvalid, BlobMissing, BlobDamaged) as error:
            incomplete = f"The rest of the layer cannot be read: {_reason(error)}."
        return LayerContents(found, incomplete)

    def _compare(self, layers: Sequence[Digest]) -> LayerContents:
        effort = self._effort()
        *below, layer = (self._read(each, effort) for each in layers)
        try:
            found = [FoundEntry(entry, change) for change, entry in changes(layer, below, effort.keep)]
        except _Exhausted as limit:
            return LayerContents((), f"The layers are too large to compare: {limit}.")
        except (ImageInvalid, BlobMissing, BlobDamaged) as error:
            return LayerContents((), f"The layers cannot be compared: {_reason(error)}.")
        return LayerContents(found)

    def _effort(self) -> _Effort:
        return _Effort(self.limits, monotonic() + self.limits.seconds)

    def _read(self, layer: Digest, effort: _Effort) -> Iterator[Entry]:
        with closing(self.state.store.open(layer)) as reader:
            yield from entries(read_chunks(reader), effort.read)


def _reason(error: ImageInvalid | BlobMissing | BlobDamaged) -> str:
    if isinstance(error, ImageInvalid):
        return error.reason
    return "its bytes are lost or damaged"
