"""Refusals: requests that the worker answers without a handler, and what the log says of these."""

import re
import time
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response

from dualreg.cli.connection import Refused, serialize
from dualreg.cli.fast_path import Answer
from dualreg.cli.plain_requests import END
from dualreg.cli.server_log import ServerLog
from dualreg.web.app import refusal
from dualreg.web.context import parts_in
from dualreg.web.identified import HEADER, identify

#: The status of what is not the client's mistake; others are explained by the error's text, up to a length.
_FAILURE = 500
_MESSAGE_LIMIT = 200
#: What can be read of a request, which may be a part of one, or none.
_LINE = re.compile(rb"\s*([!-~]{1,30}) +([^\r\n ]+)(?: +(HTTP/[0-9.]{1,5}))?[\r\n]")
_FIELD = re.compile(
    rb"\n(x-request-id|x-forwarded-for|user-agent|referer):[ \t]*([^\r\n]*)[ \t]*(?=[\r\n])", re.IGNORECASE
)


def refuse(
    app: Flask,
    log: ServerLog,
    refused: Refused,
    asked: bytes,
    *,
    peer: Mapping[str, str],
    began: float,
) -> Answer:
    """Return the answer to a request that is not handled; for the parameters, see ``last_answer``."""
    headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
    response = refusal(app, asked, refused.status, refused.message, headers)
    return last_answer(app, log, response, asked, peer=peer, began=began)


def last_answer(
    app: Flask,
    log: ServerLog | None,
    response: Response,
    asked: bytes,
    *,
    peer: Mapping[str, str],
    began: float,
) -> Answer:
    """Return *response* as the last answer on a connection.

    Args:
        log: It gets a line when the answer is sent; None: nothing does.
        asked: The beginning of the request, as it arrived.
        peer: See ``plain_requests.peer_of``.
        began: When it began to arrive, by the monotonic clock.
    """
    environ = _environment(asked, peer)
    response.headers[HEADER] = identify(environ, parts_in(app.extensions).settings.trusted_proxies)
    data, status = serialize(response, asked), response.status_code
    head = data.find(END) + len(END)

    def end(sent: int) -> None:
        if log:
            seconds, is_cut = time.monotonic() - began, sent < len(data)
            log.request(environ, status, max(sent - head, 0), seconds, is_cut=is_cut)

    return Answer(data, end)


def _environment(asked: bytes, peer: Mapping[str, str]) -> dict[str, Any]:
    """Return what can be read of a request, as its WSGI environment would have it."""
    environ: dict[str, Any] = {key: value for key, value in peer.items() if key != "SERVER_PROTOCOL"}
    if line := _LINE.match(asked):
        method, uri, protocol = (each.decode("latin-1") for each in line.groups(b"-"))
        environ |= {"REQUEST_METHOD": method, "RAW_URI": uri, "SERVER_PROTOCOL": protocol}
    for name, value in _FIELD.findall(asked.partition(END)[0] + b"\n"):
        environ["HTTP_" + name.decode().upper().replace("-", "_")] = value.decode("latin-1")
    return environ


class Unsent:
    """Takes gunicorn's own page about an error, instead of the client's socket.

    Attributes:
        status: That of the page.
    """

    status = _FAILURE

    def gettimeout(self) -> float:
        """Return the timeout of a socket that does not block."""
        return 0.0

    def sendall(self, page: bytes) -> None:
        """Read the status of the page."""
        self.status = int(page.split(b" ", 2)[1])

    def refused(self, error: Exception) -> Refused:
        """Return how the client is answered instead."""
        message = "internal server error" if self.status == _FAILURE else str(error)[:_MESSAGE_LIMIT]
        return Refused(self.status, message)
