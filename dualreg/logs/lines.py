"""Lines: how messages become text for people, or JSON for programs, by a chain of structlog's processors.

Each is one line that may be shown: printable, and without secrets. The traceback of a mistake of the program
is a member of the JSON; after text, it follows as indented lines.
"""

import logging
import os
import time
import traceback
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

from structlog.contextvars import bind_contextvars, clear_contextvars, merge_contextvars
from structlog.stdlib import ProcessorFormatter, add_log_level, add_logger_name
from structlog.typing import EventDict, Processor, WrappedLogger

from dualreg.logs.output import WHOLE
from dualreg.messages import json_text, mask, safe_line

Format = Literal["text", "json"]
#: Bytes of the longest line, with its end: processes that share a stream do not write into it.
_LONGEST = WHOLE - 1
#: Characters of the shortest text that is cut in half.
_SHORT = 20
#: What stands for the middle of a text.
_CUT = " ... "


def formatter(format: Format) -> logging.Formatter:
    """Return what makes lines of Python's records."""
    rendered: Processor = _as_json if format == "json" else _as_text
    return ProcessorFormatter(
        foreign_pre_chain=[merge_contextvars, add_logger_name, add_log_level, _add_traceback],
        processors=[ProcessorFormatter.remove_processors_meta, rendered],
    )


def message_line(format: Format, level: str, text: str) -> str:
    """Return the line of a message that is about no request."""
    rendered = _as_json if format == "json" else _as_text
    return rendered(None, level, {"event": text, "logger": "dualreg", "level": level})


def json_line(members: dict[str, Any]) -> str:
    """Return a line of JSON; the longest texts lose their middle if it would be too long."""
    line = json_text(members)
    while len(line) > _LONGEST:
        texts = {name: value for name, value in members.items() if isinstance(value, str)}
        name = max(texts, key=lambda each: len(json_text(texts[each])))
        half = len(texts[name]) * _LONGEST // len(line) // 2
        if len(texts[name]) < _SHORT:
            break
        members = members | {name: _without_middle(texts[name], min(half, len(texts[name]) // 2 - 5))}
        line = json_text(members)
    return line


def _without_middle(text: str, half: int) -> str:
    return f"{text[:half]}{_CUT}{text[-half:]}"


def _text_line(line: str, end: str = "") -> str:
    """Return a printable line and what it ends with; the line loses its middle if it would be too long."""
    size = _LONGEST - len(end)
    data = line.encode()
    if len(data) > size:
        half = (size - len(_CUT)) // 2
        line = f"{data[:half].decode(errors='ignore')}{_CUT}{data[-half:].decode(errors='ignore')}"
    return line + end


def bind_request(request_id: str) -> None:
    """Have the messages of this thread name a request, until another one or ``unbind_request``."""
    bind_contextvars(request_id=request_id)


def bind_trace(trace_id: str) -> None:
    """Have the messages of this thread name a trace, unless it is empty, until ``unbind_request``."""
    if trace_id:
        bind_contextvars(trace_id=trace_id)


def unbind_request() -> None:
    """Have the messages of this thread name no request."""
    clear_contextvars()


def json_time(now: float) -> str:
    """Return seconds since 1970 as RFC 3339 has them in UTC, to the millisecond."""
    second, fraction = divmod(now, 1)
    return f"{_second(int(second))}.{int(fraction * 1000):03d}Z"


@lru_cache(4)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _add_traceback(logger: WrappedLogger, name: str, members: EventDict) -> EventDict:
    """Add the traceback of the error that the message is about, if any."""
    del logger, name
    kind, error, frames = members.pop("exc_info", None) or (None, None, None)
    if kind:
        members["exception"] = "".join(traceback.format_exception(kind, error, frames)).rstrip("\n")
    return members


def _as_json(logger: WrappedLogger, name: str, members: EventDict) -> str:
    del logger, name
    first = {"time": json_time(time.time()), "level": members.pop("level"), "pid": os.getpid()}
    return json_line(first | {key: _masked(value) for key, value in members.items()})


def _as_text(logger: WrappedLogger, name: str, members: EventDict) -> str:
    """Return a line as gunicorn writes it, with the request."""
    del logger, name
    at = time.strftime("[%Y-%m-%d %H:%M:%S %z]")
    line = safe_line(f"{at} [{os.getpid()}] [{members['level'].upper()}] {members['event']}")
    request = "".join(f" {name}={members[name]}" for name in ("request_id", "trace_id") if name in members)
    below = members.get("exception", "")
    traceback_lines = (_text_line(f"  {safe_line(each)}") for each in below.split("\n") if below)
    return "\n".join([_text_line(line, request), *traceback_lines])


def _masked(value: Any) -> Any:  # noqa: ANN401 -- whatever a message has
    return mask(value) if isinstance(value, str) else value
