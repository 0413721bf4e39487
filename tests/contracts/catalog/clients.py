"""V1 clients that were seen."""

from datetime import timedelta

from sqlalchemy import update

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import ClientRow
from dualreg.catalog.tables import V1Clients


class ClientsContract:
    """V1 clients that were seen."""

    def test_v1_clients_add_up(self, catalog: Catalog) -> None:
        """Visits of one client are one row: the first and last time, how often; the latest comes first."""
        day = timedelta(days=1)
        now = catalog.now()
        visits = [
            ClientRow("1.2.3.4", "docker/1.5.0", "a/b", now - 2 * day, now - 2 * day, 1, 0),
            ClientRow("1.2.3.4", "docker/1.5.0", "a/b", now - day, now - day, 3, 2),
            ClientRow("1.2.3.4", "docker/1.5.0", "", now - 3 * day, now - 3 * day, 1, 1),
        ]
        for visit in visits:
            with catalog.begin() as tx:
                tx.clients.record([visit])
        together = ClientRow("1.2.3.4", "docker/1.5.0", "a/b", now - 2 * day, now - day, 4, 2)
        with catalog.read() as tx:
            assert tx.clients.list(now - 4 * day) == (together, visits[2])
            assert tx.clients.list(now - 2 * day) == (together,)
            assert tx.clients.list(now) == ()

    def test_v1_clients_of_a_network(self, catalog: Catalog) -> None:
        """The addresses of a /64 are found together, also those that a former version recorded."""
        now, addresses = catalog.now(), ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")
        rows = [ClientRow(address, "v", "", now, now, 1, 0) for address in addresses]
        with catalog.begin() as tx:
            tx.clients.record(rows)
            tx.clients.connection.execute(update(V1Clients).values(network=""))
            tx.clients.record(rows)
            assert {address for address, _, _ in tx.clients.kinds(["2001:db8::/64"])} == {*addresses[:2]}

    def test_v1_clients_are_forgotten(self, catalog: Catalog) -> None:
        """Those that came no more, and the oldest if there are too many."""
        now, hour = catalog.now(), timedelta(hours=1)
        rows = [ClientRow(str(age), "v", "", now - age * hour, now - age * hour, 1, 0) for age in range(6)]
        with catalog.begin() as tx:
            tx.clients.record(rows)
            assert {*tx.clients.kinds(["0", "5", "x"])} == {("0", "v", ""), ("5", "v", "")}
            for until, keep, left in ((9, 6, 6), (4, 6, 4), (9, 2, 2), (9, 2, 2)):
                tx.clients.forget(now - until * hour, keep=keep)
                assert [row.address for row in tx.clients.list(now - 9 * hour)] == [*map(str, range(left))]
