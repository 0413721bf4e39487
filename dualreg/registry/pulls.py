"""Pulls: when each tag was last pulled, noted in memory and written together, so that no pull is a write."""

import logging
from datetime import datetime, timedelta
from threading import Lock, Timer

from dualreg.catalog.database import Catalog
from dualreg.image.names import RepositoryName, Tag

_log = logging.getLogger(__name__)


class Pulls:
    """What was pulled since the last writing. A crash loses that much, and nobody is promised more."""

    def __init__(self, catalog: Catalog, delay: timedelta | None = None) -> None:
        """Write to *catalog*, *delay* after the first unwritten pull; None: when ``flush`` is called."""
        self._catalog = catalog
        self._delay = delay
        self._pending: dict[tuple[RepositoryName, Tag], datetime] = {}
        self._timer: Timer | None = None
        self._lock = Lock()

    def note(self, repository: RepositoryName, tag: Tag) -> None:
        """Remember that the tag was pulled now."""
        with self._lock:
            self._pending[repository, tag] = self._catalog.now()
            if self._delay and self._timer is None:
                self._timer = Timer(self._delay.total_seconds(), self._flush_quietly)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write what is remembered, in one transaction."""
        with self._lock:
            pending, self._pending, self._timer = self._pending, {}, None
        if pending:
            with self._catalog.begin() as tx:
                tx.tags.touch(pending)

    def _flush_quietly(self) -> None:
        try:
            self.flush()
        except Exception:  # noqa: BLE001 -- a busy or broken database must not end the timer's thread unlogged
            _log.exception("the times of the last pulls could not be written")
