"""SQL of the V1 clients that were seen."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, case, delete, func, select

from dualreg.catalog.dialects import batches, insert
from dualreg.catalog.rows import ClientRow, Origin
from dualreg.catalog.tables import Repositories, Tags, V1Clients
from dualreg.networks import network_of


@dataclass(frozen=True, slots=True)
class ClientGroup:
    """The V1 clients that have something in common.

    Attributes:
        name: What it is: a version, an address, or a repository.
        addresses: How many addresses they have.
        last_seen: When the last request was.
        requests, refused: How many they have sent, and how many of these V1 was disabled for.
    """

    name: str
    addresses: int
    last_seen: datetime
    requests: int
    refused: int


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

    def grouped(self, by: str, since: datetime, limit: int) -> Sequence[ClientGroup]:
        """Return up to *limit* groups of the clients seen after *since*, the one seen last first.

        Args:
            by: What they have in common: version, address or repository.
        """
        name = {"version": V1Clients.version, "address": V1Clients.address}.get(by, V1Clients.repository)
        last = func.max(V1Clients.last_seen)
        query = select(
            name, func.count(V1Clients.address.distinct()), last,
            func.sum(V1Clients.requests), func.sum(V1Clients.refused),
        ).where(V1Clients.last_seen > since)  # fmt: skip
        query = query.group_by(name).order_by(last.desc(), name).limit(limit)
        rows = self.connection.execute(query)
        return [ClientGroup(*row[:3], int(row[3]), int(row[4])) for row in rows]

    def seen(self, since: datetime) -> tuple[int, datetime | None]:
        """Return how many addresses were seen after *since*, and when the last request of all was."""
        recent = case((V1Clients.last_seen > since, V1Clients.address))
        count, last = self.connection.execute(
            select(func.count(recent.distinct()), func.max(V1Clients.last_seen))
        ).one()
        return count, last

    def last_push(self, since: datetime) -> datetime | None:
        """Return when a tag was last pushed over V1 after *since*, even to what it pointed at before.

        Only repositories are looked at that V1 clients have used since then. None: there was no push.
        """
        used = select(V1Clients.repository).where(V1Clients.last_seen > since)
        own = select(Repositories.id).where(Repositories.name.in_(used))
        query = select(func.max(Tags.updated_at)).where(
            Tags.repository_id.in_(own), Tags.updated_at > since, Tags.origin == Origin.V1
        )
        return self.connection.scalar(query)

    def in_use(self, spans: Sequence[tuple[datetime, datetime]]) -> Sequence[int]:
        """Return how many addresses were in use in each of *spans*, by one statement.

        An address counts from its first request to its last one.
        """
        first, last = func.min(V1Clients.first_seen), func.max(V1Clients.last_seen)
        of = select(first.label("first"), last.label("last")).group_by(V1Clients.address).subquery()
        counts = [func.count(case(((of.c.first < end) & (of.c.last >= begin), 1))) for begin, end in spans]
        return [*self.connection.execute(select(*counts).select_from(of)).one()]

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
