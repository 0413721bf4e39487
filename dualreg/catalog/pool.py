"""Pool: a bounded number of connections to a database server, of which those that are idle are closed."""

from dataclasses import dataclass
from threading import Condition, Timer
from time import monotonic
from typing import Any, Self

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from dualreg.catalog.waiting import PATIENCE, STUCK

#: Seconds without use after which a connection is closed.
IDLE = 60.0
#: Seconds for which no other connection is opened after one was refused, while there are some.
_REFUSED = 1.0


@dataclass(frozen=True, slots=True)
class _Idle:
    """A connection that is not in use, and since when."""

    entry: ConnectionPoolEntry
    since: float


class BoundedPool(Pool):
    """Up to a number of connections; of those that are idle, the one that was used last is used next.

    If all are in use, or the server refuses another one while there are some, whoever needs one waits until
    one is returned. If none is for a second, they are held by what takes long: that is an error at once. As
    long as the server refuses connections or does not answer, one thread at a time tries to open one.
    """

    def __init__(self, creator: Any, pool_size: int = 8, **options: Any) -> None:  # noqa: ANN401 -- SQLAlchemy's
        """Have up to *pool_size* connections, which *creator* opens; the *options* are those of any pool."""
        super().__init__(creator, **options)
        self._size = pool_size
        self._open = self._opening = 0  # the former with the latter
        self._idle: list[_Idle] = []  # in the order in which they were returned
        self._changed = Condition()
        self._refusal: Exception | None = None
        self._moved = self._refused_until = 0.0
        self._timer: Timer | None = None
        self._disposed = False

    def _do_get(self) -> ConnectionPoolEntry:
        until = monotonic() + PATIENCE
        while True:
            with self._changed:
                idle = self._take(until)
            if idle:
                return idle
            try:
                opened = self._create_connection()
            except BaseException as error:
                if not self._count_refusal(error):
                    raise
            else:
                self._count_opened()
                return opened

    def _take(self, until: float) -> ConnectionPoolEntry | None:
        """Return an idle connection, once there is one; None: the caller may open one, which counts already.

        Raises:
            SQLAlchemyError: there is none, or all are in use for too long.
        """
        while not self._idle:
            now = monotonic()
            if self._open < self._size and self._may_open(now):
                if not self._refusal:
                    self._moved = now
                self._open += 1
                self._opening += 1
                return None
            rest = min(self._moved + STUCK, until) - now
            if self._refusal and (rest <= 0 or self._open == self._opening):
                raise PoolTimeout(f"no connection to the database: {self._refusal}")
            if rest <= 0:
                raise PoolTimeout("all connections to the database are in use")
            self._changed.wait(rest)
        self._moved = monotonic()
        return self._idle.pop().entry

    def _may_open(self, now: float) -> bool:
        """Return whether another connection can be expected from the server, or it is time to try."""
        return not self._refusal or (not self._opening and now >= self._refused_until)

    def _count_opened(self) -> None:
        with self._changed:
            self._opening -= 1
            self._refusal, self._moved = None, monotonic()
            self._changed.notify_all()

    def _count_refusal(self, error: BaseException) -> bool:
        """Note that a connection could not be opened; return whether others can be waited for."""
        with self._changed:
            self._open -= 1
            self._opening -= 1
            if isinstance(error, Exception):
                self._refusal, self._refused_until = error, monotonic() + _REFUSED
            self._changed.notify_all()
            return isinstance(error, Exception) and self._open > self._opening

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        with self._changed:
            now = self._moved = monotonic()
            is_kept = record.dbapi_connection is not None and not self._disposed
            if is_kept:
                self._idle.append(_Idle(record, now))
                self._watch()
            else:
                self._open -= 1
            self._changed.notify()
        if not is_kept:
            record.close()

    def _watch(self) -> None:
        """Close the connection that has been idle for longest, when it is time."""
        if self._timer is None and self._idle:
            self._timer = Timer(max(self._idle[0].since + IDLE - monotonic(), 0), self._close_idle)
            self._timer.daemon = True
            self._timer.start()

    def _close_idle(self) -> None:
        with self._changed:
            before = monotonic() - IDLE
            old = [each for each in self._idle if each.since <= before]
            del self._idle[: len(old)]
            self._open -= len(old)
            self._timer = None
            self._watch()
        for each in old:
            each.entry.close()

    def recreate(self) -> Self:
        """Return an empty pool of the same kind."""
        return self.__class__(
            self._creator,
            self._size,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            pre_ping=self._pre_ping,
            dialect=self._dialect,
            _dispatch=self.dispatch,
        )

    def dispose(self) -> None:
        """Close all connections: those in use when they are returned."""
        with self._changed:
            self._disposed = True
            idle, self._idle = self._idle, []
            self._open -= len(idle)
            if self._timer:
                self._timer.cancel()
        for each in idle:
            each.entry.close()

    def status(self) -> str:
        """Return how many connections there are, for logs."""
        return f"{self._open} of {self._size} connections are open, {len(self._idle)} idle"
