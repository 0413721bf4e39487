"""Traffic: how much of what clients ask for comes from upstreams, and how much is here already."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import UpstreamCount
from dualreg.registry.activity import WriteBehind


class Traffic:
    """Counts, kept in memory and written together a little later; a crash loses those of the last seconds."""

    def __init__(self, catalog: Catalog, delay: timedelta | None = None) -> None:
        """Write to *catalog*, *delay* after the first unwritten count; None: only on ``flush``."""
        self._catalog = catalog
        self._pending = WriteBehind[str, UpstreamCount](self._write, delay)

    def count(self, upstream: str, **counts: int) -> None:
        """Add to the counters of an upstream.

        Args:
            upstream: Its URL.
            counts: By the names of the fields of ``UpstreamCount``.
        """
        self._pending.update(upstream, lambda known: _sum(known or UpstreamCount(upstream), counts))

    def list(self) -> Sequence[UpstreamCount]:
        """Return what was counted of each upstream, by URL."""
        with self._catalog.read() as tx:
            return tx.upstreams.counts()

    def flush(self) -> None:
        """Write the pending counts, in one transaction."""
        self._pending.flush()

    def close(self) -> None:
        """Write the pending counts, and none from now on."""
        self._pending.close()

    def _write(self, counts: Mapping[str, UpstreamCount]) -> None:
        with self._catalog.begin() as tx:
            tx.upstreams.count(counts.values())


def _sum(known: UpstreamCount, counts: Mapping[str, int]) -> UpstreamCount:
    return replace(known, **{name: getattr(known, name) + count for name, count in counts.items()})
