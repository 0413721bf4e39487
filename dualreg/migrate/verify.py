"""Verify: what is here, held against the source, tag by tag and layer by layer; no journal is asked."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO, Protocol

from dualreg.faults import BlobMissing
from dualreg.image.digest import Digest, Hasher
from dualreg.migrate.findings import Broken
from dualreg.migrate.plan import Action, Entry
from dualreg.migrate.wire import WireError
from dualreg.storage.base import BlobStore, read_chunks


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a tag, if anything."""

    entry: Entry
    problems: tuple[str, ...]


class Comparison(Protocol):
    """Compares one sort of source with what became of it."""

    def problems(self, entry: Entry) -> Iterator[str]:
        """Yield what is wrong with the tag of an entry."""


def verify(comparison: Comparison, entries: Iterable[Entry], jobs: int) -> Iterator[Verdict]:
    """Yield a verdict on every entry of the plan that is not skipped, in its order."""

    def judge(entry: Entry) -> Verdict:
        try:
            return Verdict(entry, tuple(comparison.problems(entry)))
        except (Broken, WireError) as error:
            return Verdict(entry, (str(error),))

    wanted = [entry for entry in entries if entry.action is Action.IMPORT]
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(judge, wanted)


class Bytes:
    """Reads bytes through and compares them, each once."""

    def __init__(self, store: BlobStore) -> None:
        """Compare with what *store* holds."""
        self._store = store
        self._here = cache(self._look_here)
        self._there = dict[str, str]()

    def problems(self, name: str, digest: Digest, source: Callable[[], BinaryIO]) -> Iterator[str]:
        """Yield what is wrong with a blob, here and in the source, where it is called *name*."""
        if wrong := self._here(digest):
            yield f"{name}: {wrong}"
        if name not in self._there:
            self._there[name] = _look_there(digest, source)
        if self._there[name]:
            yield f"{name}: {self._there[name]}"

    def _look_here(self, digest: Digest) -> str:
        try:
            whole = _hash(self._store.open(digest), digest.algorithm) == digest
        except BlobMissing:
            return "its bytes are not here"
        return "" if whole else "it is damaged here"


def _look_there(digest: Digest, source: Callable[[], BinaryIO]) -> str:
    try:
        same = _hash(source(), digest.algorithm) == digest
    except (Broken, OSError) as error:
        return f"it cannot be read in the source any more ({error})"
    return "" if same else "it is another one in the source now"


def _hash(reader: BinaryIO, algorithm: str) -> Digest:
    hasher = Hasher(algorithm)
    with reader:
        for chunk in read_chunks(reader):
            hasher.update(chunk)
    return hasher.digest()
