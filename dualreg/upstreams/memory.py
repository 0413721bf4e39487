"""Memory: what this process remembers of tags, failures and lists, for a short time and within bounds."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from cachetools import LRUCache, TTLCache

from dualreg.errors import UpstreamFailed
from dualreg.registry.upstream import Freshness
from dualreg.upstreams.remote import RemoteBlob

#: Tags, failures and lists that are remembered.
_TAGS, _FAILURES, _LISTS = 20_000, 10_000, 64
#: Seconds for which it is remembered that something is not there, and that lists are current.
NEGATIVE, LISTED = 30.0, 60.0
#: Seconds for which it is remembered that peers were asked.
ONCE = 60.0


class Absence(NamedTuple):
    """That something is not there, or why that is not known."""

    failure: UpstreamFailed | None


@dataclass
class Memory:
    """What is remembered of one registry, for any number of threads."""

    _tags: LRUCache[Hashable, Freshness] = field(default_factory=lambda: LRUCache(_TAGS))
    _absent: TTLCache[Hashable, Absence] = field(default_factory=lambda: TTLCache(_FAILURES, NEGATIVE))
    _sources: TTLCache[Hashable, RemoteBlob] = field(default_factory=lambda: TTLCache(_FAILURES, LISTED))
    _fetched: TTLCache[Hashable, None] = field(default_factory=lambda: TTLCache(_FAILURES, LISTED))
    _lists: TTLCache[Hashable, Sequence[str]] = field(default_factory=lambda: TTLCache(_LISTS, LISTED))
    _stale: TTLCache[Hashable, str] = field(default_factory=lambda: TTLCache(_FAILURES, LISTED))
    _asked: TTLCache[Hashable, None] = field(default_factory=lambda: TTLCache(_FAILURES, ONCE))
    _lock: Lock = field(default_factory=Lock)

    def freshness(self, key: Hashable) -> Freshness | None:
        """Return what is known of a tag."""
        with self._lock:
            return self._tags.get(key)

    def keep(self, key: Hashable, freshness: Freshness) -> Freshness:
        """Remember what is known of a tag; return it."""
        with self._lock:
            self._tags[key] = freshness
        return freshness

    def absence(self, key: Hashable) -> Absence | None:
        """Return that something was not there lately; None: that is not known."""
        with self._lock:
            return self._absent.get(key)

    def note_absence(self, key: Hashable, failure: UpstreamFailed | None = None) -> None:
        """Remember that something is not there, or why that is not known."""
        with self._lock:
            self._absent[key] = Absence(failure)

    def is_first(self, key: Hashable) -> bool:
        """Return whether this is the first time for long that *key* is given here."""
        with self._lock:
            if key in self._asked:
                return False
            self._asked[key] = None
            return True

    def source(self, key: Hashable) -> RemoteBlob | None:
        """Return a blob that was there lately."""
        with self._lock:
            return self._sources.get(key)

    def keep_source(self, key: Hashable, source: RemoteBlob) -> None:
        """Remember that a blob is there."""
        with self._lock:
            self._sources[key] = source

    def note_fetched(self, key: Hashable) -> None:
        """Remember that a tag was fetched, so that the pull which waits for it is no hit."""
        with self._lock:
            self._fetched[key] = None

    def was_fetched(self, key: Hashable) -> bool:
        """Return whether a tag was just fetched, and forget it."""
        with self._lock:
            return key in self._fetched and self._fetched.pop(key) is None

    def list_of(self, key: Hashable) -> Sequence[str] | None:
        """Return a list that was read lately."""
        with self._lock:
            return self._lists.get(key)

    def listed(self, key: Hashable, read: Callable[[], Sequence[str]]) -> Sequence[str]:
        """Return a list, which *read* returns if it is not remembered."""
        known = self.list_of(key)
        if known is None:
            known = read()
            with self._lock:
                self._lists[key] = known
                self._stale.pop(key, None)
        return known

    def note_stale(self, key: Hashable, reason: str) -> None:
        """Remember why a list could not be read."""
        with self._lock:
            self._stale[key] = reason

    def stale(self, key: Hashable) -> str:
        """Return why a list could not be read the last time; empty if it was."""
        with self._lock:
            return self._stale.get(key, "")
