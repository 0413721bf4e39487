"""Requests: the line that each request leaves in the log.

Source: the text begins as the "combined" format of Apache's mod_log_config, which tools read.
"""

import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from structlog import make_filtering_bound_logger, wrap_logger
from structlog.typing import EventDict, Processor, WrappedLogger

from dualreg.logs.lines import Format, json_line, json_time
from dualreg.messages import mask, safe_line

#: Characters of texts that clients choose, and of paths; both may be as long as headers may be.
_TEXT_LIMIT, _PATH_LIMIT = 300, 1000
#: Different texts of which the safe form is remembered.
_REMEMBERED = 1_000


class Request(NamedTuple):
    """What is logged of one request.

    Attributes:
        id: In ``X-Request-Id``.
        address: Of the client; empty if it is unknown.
        account: Whose credentials were right; empty otherwise.
        method, path, protocol: As they were sent, the path without the query.
        repository: Empty if the request is about none.
        sent: Bytes of the body that were handed to the network.
        seconds: From the arrival of the request to the end of the answer.
        is_cut: Whether the answer broke off, for example because the client hung up.
        trace: The id of its trace; empty if there is none.
    """

    id: str
    address: str
    account: str
    method: str
    path: str
    protocol: str
    repository: str
    status: int
    sent: int
    seconds: float
    referer: str = ""
    agent: str = ""
    is_cut: bool = False
    trace: str = ""


def request_log(format: Format, write: Callable[[str], object]) -> Callable[[Request], None]:
    """Return what hands the line of a request to *write*."""
    rendered: Processor = _as_json if format == "json" else _as_text
    filtering = make_filtering_bound_logger(logging.INFO)
    info = wrap_logger(_Writer(write), [rendered], filtering, context_class=dict).bind().info

    def log(request: Request) -> None:
        info("request", request=request)

    return log


class _Writer:
    """What structlog takes for a logger."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.info = write


def _as_json(logger: WrappedLogger, name: str, event: EventDict) -> str:
    del logger, name
    request: Request = event["request"]
    line: dict[str, Any] = {
        "time": json_time(time.time()),
        "level": "info",
        "event": event["event"],
        "request_id": request.id,
        "address": request.address,
        "method": _masked(request.method),
        "path": _masked(request.path, _PATH_LIMIT),
        "protocol": request.protocol,
        "status": request.status,
        "bytes": request.sent,
        "duration_ms": round(request.seconds * 1000, 3),
    }
    more = {"account": request.account, "repository": request.repository}
    more |= {"user_agent": request.agent, "referer": request.referer}
    line |= {key: _masked(value) for key, value in more.items() if value}
    if request.is_cut:
        line["cut"] = True
    if request.trace:
        line["trace_id"] = request.trace
    return json_line(line)


def _as_text(logger: WrappedLogger, name: str, event: EventDict) -> str:
    del logger, name
    each: Request = event["request"]
    return (
        f"{_word(each.address)} - {_word(each.account)} {_text_time(int(time.time()))}"
        f' "{_quoted(each.method)} {_quoted(each.path, _PATH_LIMIT)} {each.protocol}"'
        f" {each.status} {each.sent}"
        f' "{_quoted(each.referer or "-")}" "{_quoted(each.agent or "-")}" {each.seconds:.6f}'
        f" {each.id} {_word(each.repository)}{' cut' if each.is_cut else ''}"
        f"{f' trace_id={each.trace}' if each.trace else ''}"
    )


@lru_cache(4)
def _text_time(second: int) -> str:
    return time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(second))


@lru_cache(_REMEMBERED)
def _masked(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Return a text without secrets; JSON escapes the rest."""
    return mask(_shortened(text, limit))


@lru_cache(_REMEMBERED)
def _quoted(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Return a safe text that ends no quotation, for readers that know backslashes, too.

    With many characters that are written as several, it is shorter, so that a line is not too long.
    """
    text = _shortened(text, limit)
    while len((quoted := _escaped(text)).encode()) > limit + limit // 2:
        text = _shortened(text, len(text) // 2)
    return quoted


def _escaped(text: str) -> str:
    return safe_line(text.replace("\\", "\\\\")).replace('"', '\\"')


def _shortened(text: str, limit: int) -> str:
    """Return the beginning of a text, which is not the first part of a password in a URL."""
    if len(text) <= limit:
        return text
    whole, scheme, host = text[:limit].rpartition("://")
    is_over = " " in host or '"' in host
    return text[:limit] if is_over or not scheme else whole + scheme


@lru_cache(_REMEMBERED)
def _word(text: str) -> str:
    """Return a safe text without spaces; ``-`` if it is empty."""
    return _quoted(text or "-").replace(" ", "\\x20")
