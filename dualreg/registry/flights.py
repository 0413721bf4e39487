"""Flights: work that takes long, done once for all who wait for it, by a few threads of its own.

Those who wait may leave: the work goes on. It yields to requests, whose threads have a higher priority.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from threading import Event, Lock, Thread

from dualreg.waiting import work_in_background

#: What is added to the nice value of its threads.
_NICE = 10
#: For how many seconds work may go on that is to end: what it waits for may be another server.
_GRACE = 5.0


class Flights:
    """Work by keys, in up to a number of threads, which exist while there is any.

    Attributes:
        closing: Is set when the work is to end early.
    """

    def __init__(self, threads: int) -> None:
        """Begin without work."""
        self.closing = Event()
        self._most = threads
        self._threads = set[Thread]()
        self._waiting = deque[tuple[Hashable, Future[None], Callable[[], object]]]()
        self._flights = dict[Hashable, Future[None]]()
        self._lock = Lock()

    @property
    def count(self) -> int:
        """How much work there is, in progress or waiting."""
        return len(self._flights)

    def start(self, key: Hashable, work: Callable[[], object]) -> Future[None]:
        """Return the work for a key that is in progress or, if there is none, start *work*."""
        with self._lock:
            if key in self._flights:
                return self._flights[key]
            flight = self._flights[key] = Future()
            self._waiting.append((key, flight, work))
            if len(self._threads) < self._most:
                thread = Thread(target=self._run, name="flight", daemon=True)
                self._threads.add(thread)
                thread.start()
        return flight

    def close(self) -> None:
        """Drop what has not begun, and wait a little until the rest has ended."""
        self.closing.set()
        with self._lock:
            for key, flight, _ in self._waiting:
                flight.cancel()
                del self._flights[key]
            self._waiting.clear()
            threads = [*self._threads]
        until = time.monotonic() + _GRACE
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0))

    def _run(self) -> None:
        work_in_background()
        with suppress(OSError):  # of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads.discard(threading.current_thread())
                    return
                key, flight, work = self._waiting.popleft()
            failure = _failure_of(work)
            with self._lock:
                del self._flights[key]
            if failure:
                flight.set_exception(failure)
            else:
                flight.set_result(None)


def _failure_of(work: Callable[[], object]) -> BaseException | None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 -- raised where it is waited for
        return error
    return None
