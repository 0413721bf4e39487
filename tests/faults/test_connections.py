"""Servers that have few connections to PostgreSQL, none, or some that do not answer."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from psycopg import Connection, OperationalError
from sqlalchemy.exc import SQLAlchemyError

from dualreg.catalog.database import Catalog, is_outage
from dualreg.catalog.upgrade import upgrade
from tests import builders
from tests.contracts.postgresql import Cluster, postgresql_cluster
from tests.programs import Serving, children, dualreg_process, until
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Refused, Wire

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

#: The reads and the writes of both dialects.
REQUESTS = (
    ("GET", "/v2/team0/app/tags/list"),
    ("POST", "/v2/team0/app/blobs/uploads/"),
    ("GET", "/v1/repositories/team0/app/tags"),
    ("PUT", "/v1/repositories/team0/app/tags/t"),
)
#: The connections of our servers.
OURS = "FROM pg_stat_activity WHERE application_name = 'dualreg'"
#: Seconds: what the servers are given, and the longest that an answer may take then (docs/postgresql.md).
TIMEOUT, LONGEST = 2, 2 + 15


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server with the default number of connections, and the tables of a catalog."""
    with postgresql_cluster() as cluster, cluster.running(max_connections=100):
        with closing(Catalog(cluster.url())) as catalog:
            upgrade(catalog)
        yield cluster


def ours(connection: "Connection[Any]") -> int:
    """Return how many connections servers of ours have open."""
    row = connection.execute(f"SELECT count(*) {OURS}").fetchone()
    return int(row[0]) if row else 0


def exchange(host: str, number: int) -> None:
    """Push and pull an image of each generation, in one of eight repositories."""
    name = f"team{number % 8}/app"
    image = builders.image(builders.layer({"v2": b"%d" % number}))
    V2Client(host).push(name, f"t{number}", image)
    assert [*V2Client(host).pull(name, f"t{number}").layers] == [*image.layers]
    chain = builders.v1_chain(builders.layer({"v1": b"%d" % number}), seed=f"{number}")
    V1Client(host).push(name, f"v{number}", chain)
    pulled = V1Client(host).pull(name, f"v{number}")
    assert [each.layer for each in pulled] == [each.layer for each in chain]


def patiently(exchanges: Sequence[Callable[[], object]]) -> None:
    """Do all at once, each again while it is answered with 503, or 429 since all are of one address."""

    def insist(act: Callable[[], object]) -> None:
        for _ in range(200):
            try:
                act()
            except Refused as error:
                if error.status not in (429, 503):
                    raise
                time.sleep(0.2)
            else:
                return
        pytest.fail("it was always refused")

    with ThreadPoolExecutor(len(exchanges)) as pool:
        [*pool.map(insist, exchanges)]


def test_three_instances_share_few_connections(cluster: Cluster, tmp_path: Path) -> None:
    """More clients than connections get all that they ask for, and no more are taken than documented."""
    most, done = [0], Event()

    def watch() -> None:
        with closing(cluster.connect()) as connection:
            while not done.wait(0.05):
                most.append(ours(connection))

    with ExitStack() as stack:
        data = tmp_path / "data"
        options = {"database": cluster.url(), "database_connections": 2, "audit": "off", "gc_interval": "2s"}
        servers = [stack.enter_context(dualreg_process(data, **options)) for _ in range(3)]
        watching = stack.enter_context(ThreadPoolExecutor(1)).submit(watch)
        stack.callback(done.set)
        patiently([partial(exchange, servers[number % 3].host, number) for number in range(24)])
        done.set()
        watching.result()
        assert all("Traceback" not in each.log.read_text() for each in servers)
    assert 3 * 2 <= max(most) <= 3 * (2 * 2 + 2)


def take_all(cluster: Cluster, held: ExitStack) -> None:
    """Hold all connections that the server has left."""
    with suppress(OperationalError):
        while True:
            held.enter_context(closing(cluster.connect()))


def test_a_database_that_takes_no_more_connections(cluster: Cluster, tmp_path: Path) -> None:
    """With a few, all clients get what they want, some in a second try; with none, 503; then all go on."""
    with ExitStack() as stack:
        options = {"database": cluster.url(), "audit": "off", "gc_interval": "0s"}
        serving = stack.enter_context(dualreg_process(tmp_path / "data", **options))
        exchange(serving.host, 1000)
        held = stack.enter_context(ExitStack())
        last = held.enter_context(closing(cluster.connect()))
        take_all(cluster, held)
        assert ours(last) < 16
        patiently([partial(exchange, serving.host, 1001 + number) for number in range(24)])

        def is_refused() -> bool:
            """Take what is left; the server gives a connection back a moment after it has ended."""
            if ours(last):
                last.execute(f"SELECT pg_terminate_backend(pid) {OURS}")
            take_all(cluster, held)
            return not ours(last) and Wire(serving.host).send(*REQUESTS[0]).status == 503

        assert until(is_refused)
        for request in REQUESTS:
            ask(serving, *request)
        held.close()
        # The server gets its connections back one by one, and a worker may be without one for a moment.
        patiently([partial(exchange, serving.host, 2000)])
        assert "Traceback" not in serving.log.read_text()


def ask(serving: Serving, method: str, path: str) -> float:
    """Check that a request is answered with 503 in its dialect; return how many seconds that takes."""
    began = time.monotonic()
    body = b'"' + b"0" * 64 + b'"' if method == "PUT" else None
    answer = Wire(serving.host).send(method, path, (), body)
    assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True)
    assert (b'"errors"' in answer.body) == path.startswith("/v2")
    return time.monotonic() - began


class Proxy:
    """Passes bytes on to PostgreSQL until it is silenced: then it accepts, and never answers."""

    def __init__(self, port: int) -> None:
        """Listen, for connections to *port*."""
        self._target, self.silent = port, Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
                for pair in ((client, server), (server, client)):
                    Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                while self.silent.is_set():
                    time.sleep(0.01)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close all connections."""
        self.silent.clear()
        for each in (self._listener, *self._open):
            each.close()


@contextmanager
def stopped(server: int) -> Iterator[None]:
    """Stop PostgreSQL, with all its processes, for the block."""
    stopped = [server, *children(server)]
    for each in stopped:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in stopped:
            os.kill(each, signal.SIGCONT)


@contextmanager
def silenced(proxy: Proxy) -> Iterator[None]:
    """Have nothing go through the proxy for the block."""
    proxy.silent.set()
    try:
        yield
    finally:
        proxy.silent.clear()


@pytest.mark.parametrize("kind", ["stopped", "silenced"])
def test_a_database_that_does_not_answer(tmp_path: Path, kind: str) -> None:
    """Requests that need it get 503 in time, however many there are; others are answered; then all go on."""
    with postgresql_cluster() as cluster, cluster.running() as server, ExitStack() as stack:
        with closing(Catalog(cluster.url())) as catalog:
            upgrade(catalog)
        proxy = stack.enter_context(closing(Proxy(cluster.port)))
        url = cluster.url().replace(str(cluster.port), str(proxy.port))
        options = {"database": url, "database_timeout": f"{TIMEOUT}s", "audit": "off", "gc_interval": "0s"}
        serving = stack.enter_context(dualreg_process(tmp_path / "data", workers=2, threads=16, **options))
        patiently([partial(exchange, serving.host, number) for number in range(16)])
        assert until(lambda: len(children(serving.process.pid)) == 2)
        workers = children(serving.process.pid)
        pool = stack.enter_context(ThreadPoolExecutor(64))
        with stopped(server.pid) if kind == "stopped" else silenced(proxy):
            waits = [pool.submit(ask, serving, *REQUESTS[number % 4]) for number in range(60)]
            time.sleep(TIMEOUT / 2)  # so that all of them wait
            began = time.monotonic()
            assert Wire(serving.host).send("GET", "/v2/").status == 200
            assert time.monotonic() - began < TIMEOUT
            for path in ("/_status", "/v1/_status"):
                assert until(lambda: Wire(serving.host).send("GET", path).status == 503, LONGEST)  # noqa: B023 -- called at once
            assert max(each.result() for each in waits) < LONGEST
        assert until(lambda: Wire(serving.host).send("GET", "/_status").status == 200)
        patiently([partial(exchange, serving.host, 100 + number) for number in range(16)])
        assert children(serving.process.pid) == workers
        assert "Traceback" not in serving.log.read_text()


@pytest.mark.parametrize("timeout", [None, 5])
def test_what_was_idle_is_opened_again(cluster: Cluster, timeout: float | None) -> None:
    """Without an error, when the server has ended it; what the server says besides ends nothing."""
    with closing(Catalog(cluster.url(), timeout=timeout)) as catalog, closing(cluster.connect()) as other:

        def backend() -> object:
            with catalog.read() as tx:
                return tx.connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()

        first = backend()
        other.execute("ALTER SYSTEM SET timezone = 'Asia/Tokyo'")  # which connections are told
        other.execute("SELECT pg_reload_conf()")
        time.sleep(0.5)
        assert backend() == first
        other.execute("SELECT pg_terminate_backend(%s)", (first,))
        time.sleep(0.5)
        assert backend() not in (first, None)
        other.execute("ALTER SYSTEM RESET timezone")


def test_a_statement_of_a_request_is_limited_and_one_of_a_command_is_not(cluster: Cluster) -> None:
    """Whatever the database limits by default, and whatever the URL says besides."""
    cluster.execute("ALTER ROLE postgres SET statement_timeout = '500ms'")
    url = f"{cluster.url()}?options=-c%20work_mem%3D5MB"
    try:
        with closing(Catalog(url)) as catalog, catalog.begin() as tx:
            tx.connection.exec_driver_sql("SELECT pg_sleep(2)")
            assert tx.connection.exec_driver_sql("SHOW work_mem").scalar() == "5MB"
            assert tx.connection.exec_driver_sql("SHOW lock_timeout").scalar() == "30s"
            # With the locks of a host that is gone, its transaction would stay for hours.
            assert tx.connection.exec_driver_sql("SHOW tcp_keepalives_idle").scalar() == "30"
            assert tx.connection.exec_driver_sql("SHOW tcp_user_timeout").scalar() == "30000"
        with closing(Catalog(url, timeout=1)) as catalog:
            with pytest.raises(SQLAlchemyError, match="statement timeout") as failed, catalog.begin() as tx:
                tx.connection.exec_driver_sql("SELECT pg_sleep(20)")
            assert is_outage(failed.value)
    finally:
        cluster.execute("ALTER ROLE postgres RESET statement_timeout")
