"""Waiting: how many threads may wait for the locks of the database, so that others go on reading."""

from contextlib import AbstractContextManager, nullcontext
from threading import Condition, Lock
from time import monotonic
from types import TracebackType

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

#: Seconds without a transaction having ended, after which no more threads wait for one.
STUCK = 1.0
#: Seconds that a writer waits for another one, of this process or another.
PATIENCE = 30


class Writers:
    """The threads of this process that write, or wait until they can: on SQLite, one at a time can.

    As long as transactions end, further threads wait for their turn. If none ends, because another process
    holds the lock for long, they are refused at once.
    """

    def __init__(self, limit: int, *, alone: bool = False) -> None:
        """Let up to *limit* threads in.

        Args:
            alone: Let one of them write at a time. The next one goes on at once then: SQLite, if left to it,
                would let each sleep and look again, for longer and longer.
        """
        self._limit, self._inside = limit, 0
        self._turn = _Turn() if alone else nullcontext()
        self._moved = 0.0
        self._changed = Condition()

    def enter(self) -> AbstractContextManager[None]:
        """Be one of them for the block.

        Raises:
            SQLAlchemyError: too many are waiting, and none gets its turn.
        """
        return self

    def turn(self) -> AbstractContextManager[None]:
        """Write for the block, as one of those inside.

        Raises:
            SQLAlchemyError: another one has been writing for too long.
        """
        return self._turn

    def __enter__(self) -> None:
        with self._changed:
            if self._inside == 0:
                self._moved = monotonic()
            while self._inside >= self._limit:
                rest = self._moved + STUCK - monotonic()
                if rest <= 0:
                    raise PoolTimeout("too many requests are waiting for another one to finish writing")
                self._changed.wait(rest)
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        with self._changed:
            self._inside -= 1
            if not isinstance(error, SQLAlchemyError):
                self._moved = monotonic()
            self._changed.notify()


class _Turn:
    """Lets one thread at a time into a block."""

    def __init__(self) -> None:
        self._lock = Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=PATIENCE):
            raise PoolTimeout("another transaction has been writing for too long")

    def __exit__(self, *_: object) -> None:
        self._lock.release()
