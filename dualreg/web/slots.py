"""Slots: uploads and downloads take a part of the threads, never all of them.

Clients decide how long these requests last. A quarter of the threads is left to everything else.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Any

from flask import Response, request

from dualreg.errors import ServerBusy

#: Largest request body, in bytes, that the server receives before a thread handles the request.
SMALL_BODY = 64 << 10
#: Largest response body, in bytes, that fits into the buffers of any connection.
_SMALL_RESPONSE = 8 << 10
#: When a client that got no slot may try again, in seconds.
_RETRY_AFTER = 5


class Slots:
    """The threads that uploads and downloads may take at once."""

    def __init__(self, threads: int) -> None:
        """Leave a quarter of *threads*, rounded up, unless there is only one."""
        self._free = BoundedSemaphore(max(threads * 3 // 4, 1))

    def take(self) -> Callable[[], None]:
        """Take a slot; return what gives it back, which may be called more than once.

        Raises:
            ServerBusy: all are taken. Waiting for one would take a thread.
        """
        if not self._free.acquire(blocking=False):
            raise ServerBusy(retry_after=_RETRY_AFTER)
        return _Taken(self._free).release

    @contextmanager
    def for_body(self) -> Iterator[None]:
        """Hold a slot for the block, unless the body of the request has arrived already.

        Raises:
            ServerBusy: as ``take``.
        """
        declared = request.content_length
        arrived = declared is not None and declared <= SMALL_BODY and "Expect" not in request.headers
        release = _nothing if arrived else self.take()
        try:
            yield
        finally:
            release()

    def hold_for(self, response: Response) -> None:
        """Hold a slot until the body of *response* has been sent, unless that cannot take long.

        Raises:
            ServerBusy: as ``take``; the response is closed.
        """
        length = response.content_length
        if request.method == "HEAD" or (length is not None and length <= _SMALL_RESPONSE):
            return
        try:
            release = self.take()
        except ServerBusy:
            _close(response)
            raise
        if response.direct_passthrough:
            _call_on_close(response.response, release)
        else:
            response.call_on_close(release)


class _Taken:
    """A slot that is given back once: when it is released, or with the last reference to it."""

    def __init__(self, free: BoundedSemaphore) -> None:
        self._free: BoundedSemaphore | None = free

    def release(self) -> None:
        free, self._free = self._free, None
        if free is not None:
            free.release()

    __del__ = release


def _call_on_close(body: Any, release: Callable[[], None]) -> None:  # noqa: ANN401 -- a server's file wrapper
    """Call *release* when the server closes *body*, of which werkzeug does not know the end."""
    close = body.close

    def close_both() -> None:
        try:
            close()
        finally:
            release()

    body.close = close_both


def _close(response: Response) -> None:
    if response.direct_passthrough:
        response.response.close()  # type: ignore[union-attr]  # a server's file wrapper
    else:
        response.close()


def _nothing() -> None:
    pass
