"""Slots: uploads and downloads take a part of the threads, never all of them.

Clients decide how long these requests last. A quarter of the threads is left to everything else, and of the
slots a quarter to addresses that hold few. Downloads of what is still on its way, or being made, share what
they may have with all that waits (``waiting.Budget``).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import Any

from flask import Response

from dualreg.errors import ServerBusy
from dualreg.networks import network_of
from dualreg.waiting import Budget
from dualreg.web.current import current_facts, current_request

#: Largest request body, in bytes, that the server receives before a thread handles the request.
SMALL_BODY = 64 << 10
#: Largest response body, in bytes, that fits into the buffers of any connection.
SMALL_RESPONSE = 8 << 10
#: The part of the threads that uploads and downloads take; and that part of them which waits for upstreams.
SHARE, FOLLOWERS = 3 / 4, 1 / 2
#: When a client that got no slot may try again, in seconds.
_RETRY_AFTER = 5


class Slots:
    """The threads that uploads and downloads may take at once.

    A client takes one of the last quarter of them, at least the last one, only while its address holds fewer
    than are free. So addresses that hold none find one, however many another address wants. What waits for
    bytes that are not here yet takes none of these: they are for what is here.
    """

    def __init__(self, threads: int, share: float = SHARE, budget: Budget | None = None) -> None:
        """Leave all but a *share* of the *threads*, unless there is only one.

        Args:
            budget: What else takes threads; None: these slots are a part of others, which count that.
        """
        self._count, self._budget = max(int(threads * share), 1), budget
        self._held: Counter[str] = Counter()
        self._lock = RLock()  # a slot may be released by the garbage collector, while this thread has it

    def take(self, address: str, *, waits: bool = False) -> Callable[[], None]:
        """Take a slot; return what gives it back, which may be called more than once.

        Args:
            address: The client's; empty if it is not known.
            waits: Whether what is sent is not here yet.

        Raises:
            ServerBusy: all are taken, or those left are for others. Waiting for one would take a thread.
        """
        network = network_of(address)
        with self._lock:
            free = self._count - self._held.total()
            is_last = free <= max(self._count // 4, 1) and self._count > 1
            if not free or (is_last and (waits or (network and self._held[network] >= free))):
                raise ServerBusy(retry_after=_RETRY_AFTER)
            self._held[network] += 1
        if self._budget and not self._budget.take(waits=waits):
            self._forget(network)
            raise ServerBusy(retry_after=_RETRY_AFTER)
        return _Taken(partial(self._release, network, waits=waits)).release

    @property
    def taken(self) -> int:
        """How many are taken."""
        return self._held.total()

    def _release(self, network: str, *, waits: bool) -> None:
        self._forget(network)  # with one lock at a time: the garbage collector may be here
        if self._budget:
            self._budget.give_back(waits=waits)

    def _forget(self, network: str) -> None:
        with self._lock:
            self._held -= Counter((network,))  # which forgets those that hold none

    @contextmanager
    def for_body(self, address: Callable[[], str]) -> Iterator[None]:
        """Hold a slot for the block, unless the body of the request has arrived already.

        Args:
            address: Returns that of the client, as for ``take``.

        Raises:
            ServerBusy: as ``take``.
        """
        asked = current_request()
        declared = asked.content_length
        arrived = declared is not None and declared <= SMALL_BODY and "Expect" not in asked.headers
        release = _nothing if arrived else self.take(address())
        try:
            yield
        finally:
            release()

    def take_for_response(self, address: str) -> Callable[[], None]:
        """Take a slot as ``take``, for what is not here yet and is the response to the current request."""
        release = self.take(address, waits=True)
        current_facts().has_slot = True
        return release

    def hold_for(self, response: Response, address: Callable[[], str]) -> None:
        """Hold a slot until the body of *response* has been sent, unless it has one, or cannot take long.

        Args:
            address: Returns that of the client, as for ``take``.

        Raises:
            ServerBusy: as ``take``; the response is closed.
        """
        length: int | None = response.content_length  # or that of a body in memory
        length = response.calculate_content_length() if length is None else length
        is_head = current_request().method == "HEAD"
        is_short = is_head or (length is not None and length <= SMALL_RESPONSE)
        if current_facts().pop("has_slot", False) or is_short:
            return
        try:
            release = self.take(address())
        except ServerBusy:
            _close(response)
            raise
        if response.direct_passthrough:
            call_on_close(response.response, release)
        else:
            response.call_on_close(release)


class _Taken:
    """A slot that is given back once: when it is released, or with the last reference to it."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()

    __del__ = release


def call_on_close(body: Any, release: Callable[[], None]) -> None:  # noqa: ANN401 -- a server's file wrapper
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
