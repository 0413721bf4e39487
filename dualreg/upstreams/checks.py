"""Checks: what is asked of an upstream for requests that can be answered without it.

Such a request waits for a moment. A check that takes longer goes on in its thread, and what it finds is for
the requests that follow.
"""

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock, Thread
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from dualreg.errors import UpstreamBusy
from dualreg.tracing.spans import carried
from dualreg.waiting import work_in_background

Result = TypeVar("Result")

#: Checks of one upstream that are under way at once in a process, at most.
_AT_ONCE = 32
#: When to try again if there are as many, in seconds.
_RETRY_AFTER = 10


class Unanswered(Exception):
    """A check goes on, but the request does not wait for it any longer."""


class _Check(NamedTuple):
    """A check that is under way.

    Attributes:
        began: When, in seconds of a clock.
    """

    began: float
    result: "Future[Any]"


@dataclass
class Checks:
    """The checks of one upstream in this process; each is made once, for all who wait for it.

    Attributes:
        clock: In seconds.
    """

    clock: Callable[[], float] = monotonic
    _running: dict[Hashable, _Check] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def wait(self, key: Hashable, ask: Callable[[], Result], patience: float, until: float) -> Result:
        """Return what *ask* returns, which a thread calls unless one does already.

        Args:
            key: Of what is asked; all who give the same one get the same result.
            patience: The seconds after which a check is slow. While there is one of this upstream, nobody
                waits: it does not answer others sooner.
            until: When the request does not wait any longer, by the clock.

        Raises:
            Unanswered: it takes longer, and goes on.
            UpstreamBusy: too many checks go on.
            Exception: what *ask* raises.
        """
        with self._lock:
            now = self.clock()
            is_slow = any(now - each.began >= patience for each in self._running.values())
            check = self._running.get(key) or self._begin(key, ask, now)
        try:
            found: Result = check.result.result(0.0 if is_slow else max(until - now, 0.0))
        except TimeoutError as error:
            if not check.result.done():
                raise Unanswered from error
            found = check.result.result()  # if that was not what *ask* has raised
        return found

    def _begin(self, key: Hashable, ask: Callable[[], object], now: float) -> _Check:
        """Begin a check, with the lock held.

        Raises:
            UpstreamBusy: too many go on, or the system has no thread left.
        """
        if len(self._running) >= _AT_ONCE:
            raise UpstreamBusy(retry_after=_RETRY_AFTER)
        check = _Check(now, Future())
        thread = Thread(target=carried(self._run), args=(key, ask, check.result), name="check", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise UpstreamBusy(retry_after=_RETRY_AFTER) from error
        self._running[key] = check  # after that: nothing else would ever end it
        return check

    def _run(self, key: Hashable, ask: Callable[[], object], result: "Future[Any]") -> None:
        work_in_background()
        found, failure = None, None
        try:
            found = ask()
        except BaseException as error:  # noqa: BLE001 -- raised to all who wait
            failure = error
        with self._lock:
            del self._running[key]
        if failure is None:
            result.set_result(found)
        else:
            result.set_exception(failure)
