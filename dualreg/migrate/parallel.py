"""Many items in parallel, of which few are in memory: work, and reading that need not be finished."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from queue import SimpleQueue
from threading import Event, Thread
from typing import TypeVar

#: Items that each thread may be ahead of what was read: there may be millions.
_AHEAD = 64
#: Items that an executor is given ahead of that: it knows the number of its threads.
_GIVEN = 1000
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_parallel(work: Callable[[_Item], _Result], items: Iterable[_Item], jobs: int) -> Iterator[_Result]:
    """Yield the result of *work* for each item, in order, *jobs* at a time; raise what it raises.

    No work is begun after that, or after the caller has stopped to read. Work that is in progress then is
    neither waited for, nor does it keep the process from ending.
    """
    left, ended = iter(items), Event()
    given, futures = SimpleQueue[tuple[Future[_Result], _Item] | None](), deque[Future[_Result]]()

    def give(number: int) -> None:
        for item in islice(left, number):
            futures.append(Future())
            given.put((futures[-1], item))

    def run() -> None:
        while (task := given.get()) and not ended.is_set():
            future, item = task
            try:
                future.set_result(work(item))
            except BaseException as error:  # noqa: BLE001 -- raised where the result is read
                future.set_exception(error)

    give(jobs * _AHEAD)
    threads = [Thread(target=run, daemon=True) for _ in range(min(jobs, len(futures)))]
    for thread in threads:
        thread.start()
    try:
        while futures:
            yield futures.popleft().result()
            give(1)
    finally:
        ended.set()
        for _ in threads:
            given.put(None)


def pooled(pool: Executor, work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yield the result of *work* for each item, in order, as ``pool.map``, which would take all at once."""
    left = iter(items)
    futures = deque(pool.submit(work, item) for item in islice(left, _GIVEN))
    try:
        while futures:
            yield futures.popleft().result()
            futures.extend(pool.submit(work, item) for item in islice(left, 1))
    finally:
        for future in futures:
            future.cancel()
