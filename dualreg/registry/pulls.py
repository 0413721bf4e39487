"""Pulls: which tags this process recorded as pulled a moment ago, so that not every pull is a write."""

from threading import Lock

from cachetools import TTLCache

from dualreg.image.names import RepositoryName, Tag

#: Seconds within which one record of a tag's pull stands for all.
_GRAIN = 60
#: Tags remembered; one that is forgotten early costs a write.
_CAPACITY = 10_000


class RecentPulls:
    """Tags pulled within the last minute."""

    def __init__(self) -> None:
        """Remember nothing."""
        self._seen: TTLCache[tuple[RepositoryName, Tag], bool] = TTLCache(_CAPACITY, _GRAIN)
        self._lock = Lock()

    def is_first(self, repository: RepositoryName, tag: Tag) -> bool:
        """Remember this pull, and tell whether it is the first within a minute."""
        with self._lock:
            first = (repository, tag) not in self._seen
            if first:
                self._seen[repository, tag] = True
            return first
