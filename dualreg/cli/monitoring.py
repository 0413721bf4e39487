"""Monitoring: ``/livez``, ``/readyz`` and ``/metrics``, whatever the threads of a worker do.

The loop of the worker answers. What takes long is done beside it: the check in ``readiness``, and the page of
metrics in a thread of its own, one at a time.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from socket import socket
from threading import Thread
from typing import Any, Self

from flask import Flask, Response

from dualreg.cli.metering import Meter
from dualreg.messages import safe_line
from dualreg.monitoring.folder import MetricsFolder
from dualreg.monitoring.page import CONTENT_TYPE
from dualreg.settings import Settings
from dualreg.web.context import Parts, parts_in
from dualreg.web.forwarded import address_of, is_among
from dualreg.web.health import readiness_of

#: Called in the loop with the answer.
Send = Callable[[Response], None]

_ASKED = re.compile(rb"(?:GET|HEAD) (/[a-z]+)[ ?]")
_FORWARDED = re.compile(rb"\r\nx-forwarded-for:([^\r\n]*)", re.IGNORECASE)
_METRICS = b"/metrics"
#: Seconds for which ``/readyz`` waits for a check; then what is known is the answer.
_PATIENCE = 1.0
#: Who waits for the same at once, at most: each holds a connection of the worker, which clients need, too.
_WAITING = 100
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_log = logging.getLogger(__name__)


class Monitor:
    """Answers what load balancers and Prometheus ask.

    Attributes:
        meter: What is counted; None: nothing is.
    """

    def __init__(
        self,
        parts: Parts,
        is_stopping: Callable[[], bool],
        defer: Callable[..., None],
        meter: Meter | None = None,
    ) -> None:
        """Answer for an application with these *parts*.

        Args:
            is_stopping: Returns whether the server stops.
            defer: Has a function called in the loop; other threads may call this.
        """
        self.meter = meter
        self._settings = parts.settings
        self._is_stopping, self._defer = is_stopping, defer
        self._readiness = readiness_of(parts)
        self._waiting: list[tuple[float, Send]] = []
        self._scraping: list[Send] = []
        self._paths: Mapping[bytes, Callable[[Send], None]] = {
            b"/livez": self._live,
            b"/readyz": self._ready,
            _METRICS: self._scrape,
        }

    @classmethod
    def of(
        cls,
        app: object,
        folder: MetricsFolder | None,
        process: int,
        is_stopping: Callable[[], bool],
        defer: Callable[..., None],
    ) -> Self | None:
        """Return what answers for *app*; None if that is not an application of ours.

        Args:
            folder: Where a *process* counts, if metrics are on.
        """
        if not isinstance(app, Flask):
            return None
        parts = parts_in(app.extensions)
        meter = None
        try:
            if folder:
                meter = Meter(parts, folder, process)
        except OSError as error:
            _log.warning("there are no metrics of this process: %s", safe_line(error))
        return cls(parts, is_stopping, defer, meter)

    def own_listener(self, listeners: Sequence[Any]) -> Any | None:  # noqa: ANN401 -- gunicorn's
        """Return the one of ``monitoring_bind``; None if that is not set, or another program listens."""
        return next((each for each in listeners[1:] if is_at(each, self._settings)), None)

    def takes(self, head: bytes, peer: Mapping[str, str], *, own: bool) -> bool:
        """Return whether a request is for monitoring, and may be.

        Args:
            head: Its head.
            peer: What its WSGI environment has of the other side of the connection.
            own: Whether it came to ``monitoring_bind``, where nothing else is served.
        """
        path = _path(head)
        return own or (path in self._paths and (path != _METRICS or self._may_scrape(head, peer)))

    def _may_scrape(self, head: bytes, peer: Mapping[str, str]) -> bool:
        """Return whether the client, be it behind proxies, is in ``metrics_networks``."""
        forwarded = b",".join(_FORWARDED.findall(head)).decode("latin-1")
        environ = {**peer, **({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})}
        address = address_of(environ, self._settings.trusted_proxies)
        return is_among(address, self._settings.metrics_networks)

    def answer(self, head: bytes, send: Send) -> None:
        """Answer a request that this takes: call *send* with the answer, now or within seconds."""
        if found := self._paths.get(_path(head)):
            found(send)
        else:
            send(Response("not found\n", HTTPStatus.NOT_FOUND, content_type="text/plain"))

    def look(self, values: Mapping[str, int]) -> None:
        """Answer those who have waited long enough; to be called about every second.

        Args:
            values: Gauges of the worker, by name.
        """
        if self.meter:
            self.meter.sample(values)
        now = time.monotonic()
        due = [send for until, send in self._waiting if until <= now]
        self._waiting = [each for each in self._waiting if each[0] > now]
        for send in due:
            send(self._state())

    def _live(self, send: Send) -> None:
        send(document({"status": "alive"}))

    def _ready(self, send: Send) -> None:
        if self._is_stopping() or self._readiness.is_fresh or len(self._waiting) >= _WAITING:
            send(self._state())
            return
        self._waiting.append((time.monotonic() + _PATIENCE, send))
        self._readiness.refresh(partial(self._defer, self._answer_all))

    def _answer_all(self) -> None:
        """Answer those who wait for the check that has ended."""
        waiting, self._waiting = self._waiting, []
        for _, send in waiting:
            send(self._state())

    def _scrape(self, send: Send) -> None:
        if len(self._scraping) >= _WAITING:
            send(_failed())
            return
        self._scraping.append(send)
        if len(self._scraping) > 1:
            return
        try:
            Thread(target=self._make_page, name="metrics", daemon=True).start()
        except RuntimeError as error:  # there can be no more threads now
            _log.warning("cannot collect metrics: %s", safe_line(error))
            self._answer_scrapers(_failed())

    def _make_page(self) -> None:
        try:
            response = self._page()
        except Exception:  # noqa: BLE001 -- whatever it is, who asks gets an answer
            _log.exception("failed to collect metrics")
            response = _failed()
        self._defer(self._answer_scrapers, response)

    def _page(self) -> Response:
        if self.meter is None:
            text = "this process has no metrics; its log says why\n"
            return Response(text, HTTPStatus.SERVICE_UNAVAILABLE, content_type="text/plain")
        content = self.meter.page(self._readiness.look(_PATIENCE), is_stopping=self._is_stopping())
        return Response(content, headers=_HEADERS, content_type=CONTENT_TYPE)

    def _answer_scrapers(self, response: Response) -> None:
        scraping, self._scraping = self._scraping, []
        for send in scraping:
            send(response)

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


def _failed() -> Response:
    return Response("failed\n", HTTPStatus.INTERNAL_SERVER_ERROR, content_type="text/plain")


def _path(head: bytes) -> bytes:
    """Return the path of a request that may be for monitoring; empty for others."""
    match = _ASKED.match(head)
    return match[1] if match else b""


def is_at(listener: socket, settings: Settings) -> bool:
    """Return whether a socket listens on ``monitoring_bind``."""
    name, bind = listener.getsockname(), settings.monitoring_bind
    if isinstance(name, tuple):
        return not bind.startswith("unix:") and f"{name[1]}" == bind.rpartition(":")[2]
    return f"unix:{name}" == bind


def document(content: Mapping[str, object], status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return an answer in JSON."""
    return Response(f"{json.dumps(content)}\n", status, _HEADERS, content_type="application/json")
