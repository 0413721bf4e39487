"""PostgreSQL: connections to a server, or to a pooler before it, whose waits have an end.

The server limits its own statements and waits for locks. It cannot if it is stopped, if its host is gone, or
if something between takes connections and does not answer: then the limits of this side count.

A pooler such as PgBouncer gives each transaction another connection to the server. So nothing may be left in
a session: neither settings nor prepared statements.
"""

import math
import select
from collections.abc import Sequence
from time import monotonic
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy import Connection as Transaction
from sqlalchemy.exc import DisconnectionError

from dualreg.catalog.clock import DatabaseClock, ticks
from dualreg.catalog.pool import BoundedPool
from dualreg.catalog.waiting import PATIENCE

Result = TypeVar("Result")

#: Seconds that a server may take to accept a connection.
_CONNECT = 5
#: Seconds after which a server that has not ended a statement itself is given up.
_GRACE = 5.0
#: Seconds for which a transaction may do nothing: of a request, and of a command, which may do other work.
_IDLE, _IDLE_COMMAND = 60, 3600
#: What the URL of a database may change. The kernel finds out within 60 seconds that a host is gone.
#: Source: PostgreSQL, "Parameter Key Words".
_NETWORK = {
    "connect_timeout": _CONNECT,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "fallback_application_name": "dualreg",
    "client_encoding": "utf8",  # of a database without an encoding (SQL_ASCII), the driver would return bytes
}
#: What the server is asked for, to find out in the same time that this host is gone, and release its locks.
_NETWORK_OF_SERVER = {
    "tcp_keepalives_idle": 30,
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


class Connection(psycopg.Connection[Any]):
    """A connection that is closed if the server does not answer.

    Attributes:
        limit: Seconds that it may take to.
        pooled: Whether another program stands before the server.
    """

    limit = math.inf
    pooled = False

    def wait(self, gen: PQGen[Result], *args: Any, **options: Any) -> Result:  # noqa: ANN401 -- those of the driver
        return super().wait(self._limited(gen) if self.limit < math.inf else gen, *args, **options)

    def _limited(self, steps: PQGen[Result]) -> PQGen[Result]:
        """Take the steps of a statement, as long as the server answers in time.

        Raises:
            OperationalError: it does not.
        """
        until = monotonic() + self.limit
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted
                if not ready and monotonic() >= until:
                    self.close()
                    raise psycopg.OperationalError(f"no answer within {self.limit:.0f} seconds")
                wanted = steps.send(ready)
        except StopIteration as end:
            result: Result = end.value
            return result


def open_postgresql(url: URL, *, pool_size: int, timeout: float | None, clock: DatabaseClock) -> Engine:
    """Return an engine with up to *pool_size* connections.

    Args:
        timeout: Seconds that a statement may take; None: as long as it needs.
        clock: Is set by that of the server, about once a minute.
    """
    session = _Session(timeout, clock)
    engine = create_engine(
        url, hide_parameters=True, poolclass=BoundedPool, pool_size=pool_size, use_native_hstore=False
    )
    event.listen(engine, "do_connect", session.connect)
    event.listen(engine, "checkout", session.check)
    event.listen(engine, "begin", session.begin)
    return engine


class _Session:
    """What is set in each session, or in each transaction if there is a pooler."""

    def __init__(self, timeout: float | None, clock: DatabaseClock) -> None:
        self._clock = clock
        self._limit = timeout + _GRACE if timeout else math.inf
        #: In milliseconds; 0 is no limit. Compiling a query would take much longer than our queries do.
        self._settings = {
            "jit": 0,
            "statement_timeout": int((timeout or 0) * 1000),
            "lock_timeout": int((timeout or PATIENCE) * 1000),
            "idle_in_transaction_session_timeout": (_IDLE if timeout else _IDLE_COMMAND) * 1000,
        }
        self._takes_options = True

    def connect(self, dialect: object, record: object, args: Any, parameters: Any) -> Connection:  # noqa: ANN401 -- the driver's
        """Open a connection, with what the URL chooses in *parameters*.

        Raises:
            psycopg.Error: the server cannot be reached, or refuses it.
        """
        del dialect, record
        chosen = _NETWORK | parameters
        connection = self._open(args, chosen)
        connection.limit = self._limit
        (own,) = self._read_clock(connection, "pg_backend_pid()")
        connection.autocommit = False
        connection.pooled = own != connection.info.backend_pid
        if connection.pooled:
            connection.prepare_threshold = None
        return connection

    def _open(self, args: Any, parameters: dict[str, Any]) -> Connection:  # noqa: ANN401 -- the driver's
        """Open a connection with options, unless a pooler does not take any."""
        given = _NETWORK_OF_SERVER | self._settings
        settings = " ".join(f"-c {name}={value}" for name, value in given.items())
        options = {"options": f"{settings} {parameters.get('options', '')}".rstrip()}
        if self._takes_options:
            try:
                return Connection.connect(*args, autocommit=True, **parameters | options)
            except psycopg.OperationalError as error:
                if "unsupported startup parameter" not in str(error):
                    raise
                self._takes_options = False
        return Connection.connect(*args, autocommit=True, **parameters)

    def check(self, connection: Connection, record: object, proxy: object) -> None:
        """Have a connection opened again that the server has ended while it was idle.

        It cannot have sent anything else, but for rare notices: only then it is asked, and when it is time to
        read the clock of the server.

        Raises:
            DisconnectionError: as SQLAlchemy takes it.
        """
        del record, proxy
        asks = not connection.closed and (_has_arrived(connection) or self._clock.is_due())
        if connection.closed or (asks and not self._answers(connection)):
            raise DisconnectionError("the server has closed the connection")

    def _answers(self, connection: Connection) -> bool:
        try:
            connection.autocommit = True
            self._read_clock(connection)
            connection.autocommit = False
        except psycopg.OperationalError:
            return False
        return True

    def _read_clock(self, connection: Connection, *more: LiteralString) -> Sequence[Any]:
        """Set the clock by that of the server, within no transaction; return what *more* expressions are."""
        began = ticks()
        cursor = connection.execute(f"SELECT {', '.join(('clock_timestamp()', *more))}")
        row: Sequence[Any]
        (row,) = cursor.fetchall()
        self._clock.set(row[0], began)
        return row[1:]

    def begin(self, connection: Transaction) -> None:
        """Set for a transaction what the session cannot have."""
        own = connection.connection.driver_connection
        if isinstance(own, Connection) and own.pooled and not own.autocommit:
            settings = ", ".join(
                f"set_config('{name}', '{value}', true)" for name, value in self._settings.items()
            )
            connection.exec_driver_sql(f"SELECT {settings}")


def _has_arrived(connection: Connection) -> bool:
    """Return whether there is something to read, without waiting."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
