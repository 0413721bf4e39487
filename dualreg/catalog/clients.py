"""SQL of V1 clients that came."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.rows import ClientRow
from dualreg.catalog.tables import V1Clients


@dataclass(frozen=True, slots=True)
class ClientQueries:
    """Which V1 clients came, for which repository, and when."""

    connection: Connection

    def record(self, clients: Iterable[ClientRow]) -> None:
        """Add the visits to what is known of these clients."""
        row = insert(self.connection, V1Clients)
        added = {
            "last_seen": row.excluded.last_seen,
            "requests": V1Clients.requests + row.excluded.requests,
            "refused": V1Clients.refused + row.excluded.refused,
        }
        key = [V1Clients.address, V1Clients.version, V1Clients.repository]
        statement = row.on_conflict_do_update(index_elements=key, set_=added)
        # Always in one order, so that two processes that write at once wait instead of locking each other.
        rows = sorted((asdict(client) for client in clients), key=lambda row: [row[name.key] for name in key])
        if rows:
            self.connection.execute(statement, rows)

    def list(self, since: datetime) -> tuple[ClientRow, ...]:
        """Return the clients seen after *since*, the latest first."""
        query = select(
            V1Clients.address,
            V1Clients.version,
            V1Clients.repository,
            V1Clients.first_seen,
            V1Clients.last_seen,
            V1Clients.requests,
            V1Clients.refused,
        ).where(V1Clients.last_seen > since)
        ordered = query.order_by(
            V1Clients.last_seen.desc(), V1Clients.address, V1Clients.version, V1Clients.repository
        )
        return tuple(ClientRow(*row) for row in self.connection.execute(ordered))
