"""Pulls: when each tag was last pulled, noted in memory and written together, so that no pull is a write."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from dualreg.catalog.database import Catalog
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.later import Later


class Pulls:
    """What was pulled since the last writing. A crash loses that much, and nobody is promised more."""

    def __init__(self, catalog: Catalog, delay: timedelta | None = None) -> None:
        """Write to *catalog*, *delay* after the first unwritten pull; None: when ``flush`` is called."""
        self._catalog = catalog
        self._later = Later(self._write, delay)

    def note(self, repository: RepositoryName, tag: Tag) -> None:
        """Remember that the tag was pulled now."""
        now = self._catalog.now()
        self._later.note((repository, tag), lambda _: now)

    def flush(self) -> None:
        """Write what is remembered, in one transaction."""
        self._later.flush()

    def _write(self, pulls: Mapping[tuple[RepositoryName, Tag], datetime]) -> None:
        with self._catalog.begin() as tx:
            tx.tags.touch(pulls)
