"""Work that several threads want done: a lock for each key, results that are computed once, what is done."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from dualreg.image.digest import Digest

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


class SingleFlight(Generic[_K, _V]):
    """Results by key, each computed once, however many threads ask for it at the same time."""

    def __init__(self) -> None:
        self._results = dict[_K, _V]()
        self._locks = KeyedLocks()

    def get(self, key: _K, compute: Callable[[], _V]) -> _V:
        """Return the result for *key*, calling *compute* if there is none yet."""
        if key not in self._results:
            with self._locks.lock(key):
                if key not in self._results:
                    self._results[key] = compute()
        return self._results[key]


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
