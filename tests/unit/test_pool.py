"""The pool of connections: bounded, given back, and going on with few."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from threading import Lock

import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dualreg.catalog import pool as module
from dualreg.catalog.pool import BoundedPool
from tests.programs import until


class Server:
    """Opens connections, and counts them.

    Attributes:
        limit: How many may be open.
        delay: Seconds until it answers.
    """

    def __init__(self) -> None:
        """Have none open."""
        self.limit, self.tried, self.opened = 99, 0, list["_Counted"]()
        self.delay, self._lock = 0.0, Lock()

    def connect(self) -> sqlite3.Connection:
        """Open a connection."""
        self.tried += 1
        time.sleep(self.delay)
        with self._lock:
            if self.open >= self.limit:
                raise sqlite3.OperationalError("too many connections")
            self.opened.append(sqlite3.connect(":memory:", check_same_thread=False, factory=_Counted))
            return self.opened[-1]

    @property
    def open(self) -> int:
        """How many are open."""
        return sum(not each.closed for each in self.opened)


class _Counted(sqlite3.Connection):
    closed = False

    def close(self) -> None:
        self.closed = True
        super().close()


@pytest.fixture
def server() -> Server:
    """A server."""
    return Server()


@pytest.fixture
def pool(server: Server) -> Iterator[BoundedPool]:
    """A pool of three connections to it."""
    pool = BoundedPool(server.connect, 3)
    yield pool
    pool.dispose()
    assert server.open == 0


def use(pool: BoundedPool, seconds: float = 0.0) -> None:
    """Take a connection for some time."""
    connection = pool.connect()
    time.sleep(seconds)
    connection.close()


def test_all_wait_for_few(pool: BoundedPool, server: Server) -> None:
    """Forty threads take turns, and no connection is opened in vain."""
    with ThreadPoolExecutor(40) as threads:
        [*threads.map(partial(use, pool), [0.02] * 200)]
    assert server.tried == server.open == 3


def test_the_next_one_to_use_is_the_last_one_used(pool: BoundedPool, server: Server) -> None:
    """So the others become idle."""
    with ExitStack() as stack:
        for _ in range(3):
            stack.callback(pool.connect().close)
    last = server.opened[0]  # what an ExitStack closes last
    for _ in range(3):
        connection = pool.connect()
        assert connection.driver_connection is last
        connection.close()


def test_what_is_idle_is_closed(monkeypatch: pytest.MonkeyPatch, pool: BoundedPool, server: Server) -> None:
    """All of it, with no other request that finds it; what is in use stays."""
    monkeypatch.setattr(module, "IDLE", 0.1)
    kept = pool.connect()
    with ExitStack() as stack:
        for _ in range(2):
            stack.callback(pool.connect().close)
    assert until(lambda: server.open == 1)
    kept.close()
    assert until(lambda: server.open == 0)
    use(pool)
    assert server.open == 1


@pytest.mark.parametrize("limit", [1, 2])
def test_what_is_refused_is_waited_for(pool: BoundedPool, server: Server, limit: int) -> None:
    """While the server takes no more connections, those that there are do; it is not asked every time."""
    server.limit = limit
    with ThreadPoolExecutor(20) as threads:
        [*threads.map(partial(use, pool), [0.01] * 100)]
    assert server.open == limit
    assert server.tried < 20
    server.limit = 3
    time.sleep(1.1)
    with ThreadPoolExecutor(3) as threads:
        [*threads.map(partial(use, pool), [0.2] * 3)]
    assert server.open == 3


def _refuse_all(pool: BoundedPool, server: Server) -> None:
    server.limit = 0
    with pytest.raises(sqlite3.OperationalError, match="too many"):
        pool.connect()


def _refuse_the_second(pool: BoundedPool, server: Server) -> None:
    server.limit = 1
    held = pool.connect()
    with pytest.raises(PoolTimeout, match="too many"):
        pool.connect()
    held.close()


def _hold_all(pool: BoundedPool, server: Server) -> None:
    assert server.limit > 3
    held = [pool.connect() for _ in range(3)]
    with pytest.raises(PoolTimeout, match="in use"):
        pool.connect()
    for each in held:
        each.close()


@pytest.mark.parametrize("fail", [_refuse_all, _refuse_the_second, _hold_all])
def test_nothing_waits_for_long(
    pool: BoundedPool, server: Server, fail: Callable[[BoundedPool, Server], None]
) -> None:
    """If no connection is returned for a second, that is an error, and everything works again afterwards."""
    began = time.monotonic()
    fail(pool, server)
    assert time.monotonic() - began < 2
    server.limit = 99
    time.sleep(1.1)
    use(pool, 0)  # one at a time finds out
    with ThreadPoolExecutor(3) as threads:
        [*threads.map(partial(use, pool), [0.2] * 3)]
    assert server.open == 3


def test_after_a_quiet_time_there_is_time_to_wait(pool: BoundedPool) -> None:
    """The second counts from when the last connection was taken, not from when one was returned."""
    use(pool)
    time.sleep(1.1)
    with ThreadPoolExecutor(6) as threads:
        [*threads.map(partial(use, pool), [0.5] * 6)]


def test_one_thread_at_a_time_asks_a_server_that_does_not_answer(pool: BoundedPool, server: Server) -> None:
    """The others have an error at once; as soon as it answers, all go on."""
    server.limit, server.delay = 0, 1.5
    with pytest.raises(sqlite3.OperationalError):
        pool.connect()
    time.sleep(1.1)
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(pool.connect)
        assert until(lambda: server.tried == 2)
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(PoolTimeout, match="too many"):
                pool.connect()
        assert time.monotonic() - began < 1
        server.limit = 3
        asking.result().close()
    server.delay = 0
    with ThreadPoolExecutor(3) as threads:
        [*threads.map(partial(use, pool), [0.2] * 3)]
    assert (server.tried, server.open) == (4, 3)


def test_what_is_invalid_is_not_kept(pool: BoundedPool, server: Server) -> None:
    """A connection that failed makes room for another one."""
    for _ in range(5):
        connection = pool.connect()
        connection.invalidate()
        connection.close()
    assert server.open == 0


def test_what_is_in_use_when_the_pool_is_disposed_is_closed_later(pool: BoundedPool, server: Server) -> None:
    """No connection is left open."""
    connection = pool.connect()
    pool.dispose()
    assert server.open == 1
    connection.close()
    assert server.open == 0
    assert pool.recreate().status() == "0 of 3 connections are open, 0 idle"
