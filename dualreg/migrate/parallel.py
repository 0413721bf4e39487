"""Reading in parallel, of which nothing needs to be finished when the program is asked to end."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from threading import Event, Thread
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_parallel(work: Callable[[_Item], _Result], items: Iterable[_Item], jobs: int) -> Iterator[_Result]:
    """Yield the result of *work* for each item, in order, *jobs* at a time; raise what it raises.

    No work is begun after that, or after the caller has stopped to read. Work that is in progress then is
    neither waited for, nor does it keep the process from ending.
    """
    futures = deque((Future[_Result](), item) for item in items)
    left, ended = iter([*futures]), Event()

    def run() -> None:
        for future, item in left:  # one step of an iterator over a list is atomic
            if ended.is_set():
                return
            try:
                future.set_result(work(item))
            except BaseException as error:  # noqa: BLE001 -- raised where the result is read
                future.set_exception(error)

    for _ in range(min(jobs, len(futures))):
        Thread(target=run, daemon=True).start()
    try:
        while futures:
            yield futures.popleft()[0].result()
    finally:
        ended.set()
