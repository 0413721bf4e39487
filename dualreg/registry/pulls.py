"""Pulls: when each tag was last pulled, noted in memory and written together, so that no pull is a write."""

from datetime import datetime, timedelta
from threading import Lock

from dualreg.catalog.database import Catalog
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.later import Later


class Pulls:
    """What was pulled since the last writing. A crash loses that much, and nobody is promised more."""

    def __init__(self, catalog: Catalog, delay: timedelta | None = None) -> None:
        """Write to *catalog*, *delay* after the first unwritten pull; None: when ``flush`` is called."""
        self._catalog = catalog
        self._pending: dict[tuple[RepositoryName, Tag], datetime] = {}
        self._lock = Lock()
        self._later = Later(self.flush, delay)

    def note(self, repository: RepositoryName, tag: Tag) -> None:
        """Remember that the tag was pulled now."""
        with self._lock:
            self._pending[repository, tag] = self._catalog.now()
        self._later.request()

    def flush(self) -> None:
        """Write what is remembered, in one transaction."""
        with self._lock:
            pending, self._pending = self._pending, {}
        if pending:
            with self._catalog.begin() as tx:
                tx.tags.touch(pending)
