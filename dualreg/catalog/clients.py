"""SQL of the V1 clients that were seen."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select

from dualreg.catalog.dialects import batches, insert
from dualreg.catalog.rows import ClientRow
from dualreg.catalog.tables import V1Clients
from dualreg.networks import network_of


@dataclass(frozen=True, slots=True)
class ClientQueries:
    """The V1 clients that were seen, by repository, and when."""

    connection: Connection

    def record(self, clients: Iterable[ClientRow]) -> None:
        """Add the requests of *clients* to their counters."""
        row = insert(self.connection, V1Clients)
        added = {
            "last_seen": row.excluded.last_seen,
            "network": row.excluded.network,
            "requests": V1Clients.requests + row.excluded.requests,
            "refused": V1Clients.refused + row.excluded.refused,
        }
        key = [V1Clients.address, V1Clients.version, V1Clients.repository]
        statement = row.on_conflict_do_update(index_elements=key, set_=added)
        # In a fixed order, so that concurrent transactions cannot deadlock.
        rows = [asdict(client) | {"network": network_of(client.address)} for client in clients]
        rows.sort(key=lambda row: [row[name.key] for name in key])
        if rows:
            self.connection.execute(statement, rows)

    def kinds(self, networks: Collection[str]) -> Sequence[tuple[str, str, str]]:
        """Return address, version and repository of all rows of *networks*."""
        query = select(V1Clients.address, V1Clients.version, V1Clients.repository)
        return [
            (address, version, repository)
            for batch in batches(networks)
            for address, version, repository in self.connection.execute(
                query.where(V1Clients.network.in_(batch))
            )
        ]

    def forget(self, until: datetime, *, keep: int) -> None:
        """Delete the clients last seen by *until*, and those beyond the *keep* most recent ones."""
        latest = select(V1Clients.last_seen).order_by(V1Clients.last_seen.desc())
        beyond = self.connection.scalar(latest.offset(keep).limit(1))
        until = until if beyond is None else max(until, beyond)
        self.connection.execute(delete(V1Clients).where(V1Clients.last_seen <= until))

    def list(self, since: datetime) -> tuple[ClientRow, ...]:
        """Return the clients seen after *since*, most recent first."""
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
