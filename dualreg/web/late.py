"""Late answers: to clients that do not repeat a request, while what they ask for is being made.

The head of the response goes out at once, and of the body what is known of it, a byte now and then, so that
neither the client nor a proxy gives up. The rest follows when it is made. If that fails, the connection ends
in the middle, so that no client takes what it has for the whole.
"""

import errno
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from threading import BoundedSemaphore

from flask import Response, request

from dualreg.errors import BlobDamaged, BlobMissing, LayersPending, RegistryError, ServerBusy
from dualreg.messages import safe_line

_log = logging.getLogger(__name__)
#: Seconds between two bytes: proxies wait for 30 or 60, Docker for as long as it takes.
_INTERVAL = 15.0
#: Seconds between two looks.
_LOOK = 0.5
#: When a client that does not get such an answer may try again, in seconds.
_RETRY_AFTER = 10

#: Returns the body of the response, without its first so many bytes, or None if it is not made yet; it waits
#: a moment for that.
Look = Callable[[int], Iterator[bytes] | None]


class LateAnswers:
    """The answers that wait, each of which has a thread."""

    def __init__(self, threads: int) -> None:
        """Let half of *threads* wait at most."""
        self._places = BoundedSemaphore(max(threads // 2, 1))

    def send(
        self, known: bytes, look: Look, headers: Mapping[str, str], slot: Callable[[], Callable[[], None]]
    ) -> Response:
        """Return the response to the current request, once it is known that it will take longer.

        Args:
            known: The first bytes of the body, at least one.
            look: Called outside of the request, until it returns the rest.
            slot: Takes a slot for the response, and returns what gives it back.

        Raises:
            LayersPending: it is a HEAD, whose answer has no body, or too many wait already.
        """
        if request.method == "HEAD" or not self._places.acquire(blocking=False):
            raise LayersPending(retry_after=_RETRY_AFTER)
        places = ExitStack()
        places.callback(self._places.release)
        try:
            places.callback(slot())
        except ServerBusy as error:
            places.close()
            raise LayersPending(retry_after=_RETRY_AFTER) from error
        headers = {**headers, "X-Accel-Buffering": "no"}  # nginx would wait for more
        body = _Waiting(_body(known, look, safe_line(request.path)), places.close)
        return Response(body, headers=headers, direct_passthrough=True)  # it has no length yet


class _Waiting:
    """The body of such a response, which the server iterates over and closes."""

    def __init__(self, body: Iterator[bytes], close: Callable[[], None]) -> None:
        self.close = close
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return self._body


def _body(known: bytes, look: Look, path: str) -> Iterator[bytes]:
    """Yield the body, of which *known* comes slowly."""
    sent, due = 0, 0.0
    try:
        while (rest := look(sent)) is None:
            if sent < len(known) and time.monotonic() >= due:
                yield known[sent : sent + 1]
                sent, due = sent + 1, time.monotonic() + _INTERVAL
            time.sleep(_LOOK)
        yield from rest
    except (RegistryError, BlobMissing, BlobDamaged, OSError) as error:
        _log.warning("GET %s ends early: %s", path, safe_line(str(error)))
        raise ConnectionResetError(errno.ECONNRESET, "the response cannot be completed") from error
