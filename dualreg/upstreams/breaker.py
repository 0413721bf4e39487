"""Breaker: what is still asked of a registry that does not answer, or that wants to be left alone.

After such a failure, nothing is sent for a while: every request fails at once as the last one did. Then one
request is let through. If it fails too, the next pause is longer; any answer ends the pauses.
"""

from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import TypeVar

from dualreg.errors import UpstreamFailed

Answer = TypeVar("Answer")

#: Seconds of the first pause and of the longest one; each is twice as long as the one before.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
#: Statuses by which a registry, or a proxy in front of it, says that other requests will fail as well.
_DOWN = (429, 502, 503, 504)


class Breaker:
    """What this process knows of a registry; for any number of threads."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Let requests through.

        Args:
            clock: In seconds.
        """
        self._clock = clock
        self._lock = Lock()
        self._failure: UpstreamFailed | None = None
        self._until = 0.0
        self._pause = 0.0
        self._is_looking = False

    def call(self, ask: Callable[[], Answer]) -> Answer:
        """Return what *ask* does, unless it is known to fail.

        Raises:
            UpstreamFailed: it fails, or was not called.
        """
        looks = self._admit()
        try:
            answer = ask()
        except UpstreamFailed as error:
            self._note(error)
            raise
        finally:
            if looks:
                self._is_looking = False
        with self._lock:
            self._failure, self._pause = None, 0.0
        return answer

    def _admit(self) -> bool:
        """Return whether the request is the one by which is found out whether the pauses are over.

        Raises:
            UpstreamFailed: nothing is sent now.
        """
        with self._lock:
            failure, left = self._failure, self._until - self._clock()
            if failure is None:
                return False
            if left <= 0 and not self._is_looking:
                self._is_looking = True
                return True
        wait = max(1, round(left))
        raise UpstreamFailed(
            upstream=failure.upstream, status=failure.status, reason=failure.reason, retry_after=wait
        )

    def _note(self, error: UpstreamFailed) -> None:
        with self._lock:
            if error.status not in _DOWN:
                self._failure, self._pause = None, 0.0
                return
            self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
            wished = min(error.retry_after or 0, LONGEST_PAUSE)
            self._failure, self._until = error, self._clock() + max(self._pause, wished)
