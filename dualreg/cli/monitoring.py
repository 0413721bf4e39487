"""Monitoring: ``/livez`` and ``/readyz``, answered in the loop of a worker, whatever its threads do.

They say of this process that its loop is alive, and whether it should get requests.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from socket import socket
from typing import Any, Self

from flask import Flask, Response

from dualreg.settings import Settings
from dualreg.web.context import Parts, parts_in
from dualreg.web.health import readiness_of

#: Called in the loop with the answer.
Send = Callable[[Response], None]

_ASKED = re.compile(rb"(?:GET|HEAD) (/[a-z]+)[ ?]")
#: Seconds for which ``/readyz`` waits for a check; then what is known is the answer.
_PATIENCE = 1.0
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Monitor:
    """Answers what load balancers ask."""

    def __init__(self, parts: Parts, is_stopping: Callable[[], bool], defer: Callable[..., None]) -> None:
        """Answer for an application with these *parts*.

        Args:
            is_stopping: Returns whether the server stops.
            defer: Has a function called in the loop; other threads may call this.
        """
        self._settings = parts.settings
        self._is_stopping, self._defer = is_stopping, defer
        self._readiness = readiness_of(parts)
        self._waiting: list[tuple[float, Send]] = []
        self._paths: Mapping[bytes, Callable[[Send], None]] = {b"/livez": self._live, b"/readyz": self._ready}

    @classmethod
    def of(cls, app: object, is_stopping: Callable[[], bool], defer: Callable[..., None]) -> Self | None:
        """Return what answers for *app*; None if that is not an application of ours."""
        return cls(parts_in(app.extensions), is_stopping, defer) if isinstance(app, Flask) else None

    def own_listener(self, listeners: Sequence[Any]) -> Any | None:  # noqa: ANN401 -- gunicorn's
        """Return the one of ``monitoring_bind``; None if that is not set, or another program listens."""
        return next((each for each in listeners[1:] if is_at(each, self._settings)), None)

    def takes(self, asked: bytes, *, own: bool) -> bool:
        """Return whether a request is for monitoring.

        Args:
            asked: The beginning of it.
            own: Whether it came to ``monitoring_bind``, where nothing else is served.
        """
        return own or self._find(asked) is not None

    def answer(self, asked: bytes, send: Send) -> None:
        """Answer a request that this takes: call *send* with the answer, now or within seconds."""
        if found := self._find(asked):
            found(send)
        else:
            send(Response("not found\n", HTTPStatus.NOT_FOUND, content_type="text/plain"))

    def _find(self, asked: bytes) -> Callable[[Send], None] | None:
        """Return what answers a request; None if that is not for monitoring."""
        match = _ASKED.match(asked)
        return self._paths.get(match[1]) if match else None

    def look(self) -> None:
        """Answer those who have waited long enough; to be called about every second."""
        now = time.monotonic()
        due = [send for until, send in self._waiting if until <= now]
        self._waiting = [each for each in self._waiting if each[0] > now]
        for send in due:
            send(self._state())

    def _live(self, send: Send) -> None:
        send(document({"status": "alive"}))

    def _ready(self, send: Send) -> None:
        if self._is_stopping() or self._readiness.is_fresh:
            send(self._state())
            return
        self._waiting.append((time.monotonic() + _PATIENCE, send))
        self._readiness.refresh(partial(self._defer, self._answer_all))

    def _answer_all(self) -> None:
        """Answer those who wait for the check that has ended."""
        waiting, self._waiting = self._waiting, []
        for _, send in waiting:
            send(self._state())

    def _state(self) -> Response:
        if self._is_stopping():
            return document({"status": "draining"}, HTTPStatus.SERVICE_UNAVAILABLE)
        failures = self._readiness.failures()
        if failures is None:
            return document({"status": "starting"}, HTTPStatus.SERVICE_UNAVAILABLE)
        if failures:
            found = {"status": "failing", "failures": {**failures}}
            return document(found, HTTPStatus.SERVICE_UNAVAILABLE)
        return document({"status": "ready"})


def is_at(listener: socket, settings: Settings) -> bool:
    """Return whether a socket listens on ``monitoring_bind``."""
    name, bind = listener.getsockname(), settings.monitoring_bind
    if isinstance(name, tuple):
        return not bind.startswith("unix:") and f"{name[1]}" == bind.rpartition(":")[2]
    return f"unix:{name}" == bind


def document(content: Mapping[str, object], status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return an answer in JSON."""
    return Response(f"{json.dumps(content)}\n", status, _HEADERS, content_type="application/json")
