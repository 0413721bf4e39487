"""Figures: how much of everything a registry has, for metrics."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.figures import FigureQueries
from dualreg.catalog.overview import size_of
from dualreg.registry.collections import Collections


@dataclass(frozen=True, slots=True)
class Figures:
    """Finds out how much there is; that reads whole tables."""

    catalog: Catalog
    collections: Collections

    def look(self) -> Mapping[str, Any]:
        """Return all figures, by what they are of, as values of JSON.

        Raises:
            DatabaseFailure: the database fails.
        """
        with self.catalog.read() as tx:
            figures = FigureQueries(tx.connection, tx.now)
            found = {
                "rows": {**figures.rows()},
                "blobs": {kind: [*amount] for kind, amount in figures.blobs().items()},
                "uploads": [*figures.uploads()],
                "candidates": figures.candidates(),
                "editions": {**figures.editions()},
                "v1_clients": {**figures.v1_clients()},
                "upstreams": [asdict(each) for each in tx.upstreams.counts()],
                "webhooks": _webhooks(tx),
                "damaged": tx.blobs.count_damaged(),
                "catalog_bytes": size_of(self.catalog, tx.connection),
            }
        return found | {"gc": self.collections.totals()._asdict(), "gc_started": self.collections.started()}

    def of_catalog(self) -> tuple[str, int]:
        """Return the kind of the database, sqlite or postgresql, and the size of the catalog in bytes."""
        with self.catalog.read() as tx:
            return tx.connection.dialect.name, size_of(self.catalog, tx.connection)


def _webhooks(tx: Transaction) -> Mapping[str, Mapping[str, float]]:
    """Return what webhooks have got, and what waits for them, by their names; ages in seconds."""
    states = tx.webhooks.states()
    return {
        name: {
            "waiting": each.pending + each.unread,
            "dead": each.dead,
            "age": max((tx.now - each.oldest).total_seconds(), 0.0) if each.oldest else 0.0,
            "delivered": states[name].delivered,
            "failed": states[name].failed,
            "given_up": states[name].given_up,
        }
        for name, each in tx.webhooks.outbox.backlogs(None).items()
        if name in states
    }
