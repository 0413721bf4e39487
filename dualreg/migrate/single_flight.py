"""Work that several threads want done: a lock for each key, results that are computed once, what is done.

There may be millions of keys, so what they are remembered by takes little.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from dualreg.image.digest import Digest

#: Results that are remembered, at least, where one that is forgotten is only found out again.
RECENT = 1 << 14

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


@dataclass
class KeyedLocks:
    """A lock for each key; a lock that no thread holds or waits for is freed."""

    _locks: WeakValueDictionary[Hashable, Lock] = field(default_factory=WeakValueDictionary)
    _lock: Lock = field(default_factory=Lock)

    def lock(self, key: Hashable) -> Lock:
        """Return the lock of *key*."""
        with self._lock:
            return self._locks.setdefault(key, Lock())


class Recent(Generic[_K, _V]):
    """Values by key, of which at least so many are remembered that were noted or asked for last."""

    def __init__(self, least: int | None = RECENT) -> None:
        """Remember *least* values; None: all."""
        self._least = least
        self._values, self._older = dict[_K, _V](), dict[_K, _V]()
        self._lock = Lock()

    def get(self, key: _K) -> _V | None:
        """Return the value of *key*; None if it is not remembered."""
        found = self._values.get(key)
        if found is None:
            found = self._older.get(key)
            if found is not None:
                self.note(key, found)
        return found

    def note(self, key: _K, value: _V) -> None:
        """Remember *value*, which is not None."""
        with self._lock:
            if self._least is not None and len(self._values) >= self._least:
                self._values, self._older = {}, self._values
            self._values[key] = value


class SingleFlight(Generic[_K, _V]):
    """Results by key, each computed once, however many threads ask for it at the same time.

    A result is never None.
    """

    def __init__(self, least: int | None = RECENT) -> None:
        """Remember the *least* last results, which may be computed again after that; None: all."""
        self._results = Recent[_K, _V](least)
        self._locks = KeyedLocks()

    def get(self, key: _K, compute: Callable[[], _V]) -> _V:
        """Return the result for *key*, calling *compute* if there is none yet."""
        found = self._results.get(key)
        if found is None:
            with self._locks.lock(key):
                found = self._results.get(key)
                if found is None:
                    found = compute()
                    self._results.note(key, found)
        return found


class Checks:
    """What is wrong with things by key, of each found out once by each kind of check.

    With nearly all, nothing is.
    """

    def __init__(self) -> None:
        self._made = dict[Hashable, int]()
        self._problems = dict[tuple[Hashable, int], str]()
        self._lock, self._locks = Lock(), KeyedLocks()

    def get(self, key: Hashable, kind: int, find: Callable[[], str]) -> str:
        """Return what is wrong, calling *find* if that is not known yet; empty: nothing.

        Args:
            kind: The kind of check, a power of two.
        """
        if not self._is_made(key, kind):
            with self._locks.lock((key, kind)):
                if not self._is_made(key, kind):
                    self._note(key, kind, find())
        return self._problems.get((key, kind), "")

    def _is_made(self, key: Hashable, kind: int) -> bool:
        return bool(self._made.get(key, 0) & kind)

    def _note(self, key: Hashable, kind: int, problem: str) -> None:
        if problem:
            self._problems[key, kind] = problem
        with self._lock:
            self._made[key] = self._made.get(key, 0) | kind


class Done:
    """The blobs and manifests of repositories that are done; there may be millions."""

    def __init__(self) -> None:
        self._digests = dict[str, set[bytes]]()

    def add(self, repository: str, *digests: Digest) -> None:
        """Note that *digests* are done in a repository."""
        self._digests.setdefault(repository, set()).update(each.packed for each in digests)

    def has(self, repository: str, digest: Digest) -> bool:
        """Return whether *digest* is done in a repository."""
        return digest.packed in self._digests.get(repository, ())

    def take(self, others: "Done") -> None:
        """Note what *others* has, which forgets it."""
        for repository, digests in others.empty():
            self._digests.setdefault(repository, set()).update(digests)

    def empty(self) -> Iterable[tuple[str, set[bytes]]]:
        """Return what is done, by repository, and forget it."""
        done, self._digests = self._digests, {}
        return done.items()

    def forget(self, repository: str) -> None:
        """Forget what is done in a repository."""
        self._digests.pop(repository, None)
