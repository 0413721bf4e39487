"""Requests to a server whose processes are killed: which of them may fail, and what they carried."""

import http.client
import math
import os
import signal
import time
from contextlib import suppress

from tests.protocol.clients.wire import Answer, ProtocolError, Request, Wire

#: Seconds that a killed process may take until all its connections are closed.
_CLOSING = 2.0


class Interrupted(Exception):
    """A connection broke off, and a process of the server was killed at that time."""


class Kills:
    """Kills processes, and remembers when.

    Attributes:
        count: How many were killed.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.count = 0
        self._last = -math.inf

    def kill(self, pid: int) -> None:
        """Kill a process without a warning."""
        self._last = math.inf  # connections may break before the call returns
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.count += 1
        self._last = time.monotonic()

    def since(self, begun: float) -> bool:
        """Return whether connections of a request may have been broken that began then."""
        return self._last + _CLOSING > begun


class WatchedWire(Wire):
    """Tells requests that a kill interrupted from those that failed.

    Attributes:
        requests: How many were answered.
        sent, received: Bytes of bodies.
    """

    def __init__(self, host: str, kills: Kills) -> None:
        """Speak to HOST:PORT."""
        super().__init__(host)
        self._kills = kills
        self.requests = self.sent = self.received = 0

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request.

        Raises:
            Interrupted: a process was killed, and there is no answer, or a part of one.
            ProtocolError: there is none although nothing was killed, or it is a failure of the server.
        """
        self.log.clear()  # it would grow for hours
        begun, what, body = time.monotonic(), f"{request.method} {request.path}", request.body
        pieces = [body] if isinstance(body, bytes) else [*(body or ())]
        try:
            whole = body if isinstance(body, bytes | None) else pieces
            answer = super().answer(request._replace(body=whole))
        except (OSError, http.client.HTTPException) as error:
            if self._kills.since(begun):
                raise Interrupted from error
            raise ProtocolError(f"{what}: {error!r}, and nothing was killed") from error
        if answer.status >= 500:
            raise ProtocolError(f"{what}: {answer.status} {answer.body[:300]!r}")
        self.requests += 1
        self.sent += sum(map(len, pieces))
        self.received += len(answer.body)
        return answer
