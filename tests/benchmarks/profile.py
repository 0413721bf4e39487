"""Where the processor time of a request goes, by part of the program.

The *total* is how long all processes of a real server are on a processor, in user and kernel mode, while many
connections send the request, divided by the requests answered. Of other registries, and of dualreg behind
nginx, that is all.

Of dualreg alone, the same request is then made in this process, by a call of the WSGI application over the
same data: first without looking, which gives the processor time of a call; then with a timer that goes off
after each few milliseconds of processor time and notes which code runs. A sample belongs to the innermost
function on the stack whose module is of one of the parts, so that the standard library counts for its caller.
The time of a call is divided in proportion to the samples.

*rendering* is all of dualreg that is none of the others: views, services, the store. *server* is the rest of
the total: gunicorn, the worker's loop and its threads, what the kernel does for their sockets and files, and
what requests in other threads cost by waiting for the interpreter's lock. So the parts add up to the total.

A share of p percent of n samples is uncertain by about √(p · (100 - p) / n) percent, and Python notices the
timer between instructions only: time may count for the function that is called next. The total and the time
of a call are medians of measurements in turn; where other load on the machine disturbed one more than the
other, *server* is wrong by that, and may even be negative.
"""

import io
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.http.wsgi import FileWrapper
from werkzeug.test import create_environ

from dualreg.settings import Settings
from dualreg.web.app import create_app
from dualreg.web.context import close
from tests.benchmarks.load import Answered
from tests.benchmarks.report import figure, table
from tests.benchmarks.rows import Ask, Row
from tests.benchmarks.servers import Server, settings
from tests.benchmarks.wire import Refused
from tests.programs import children

_SERVER, _REST = "server", "rendering"
#: The part of each module, and of those below it.
_PARTS = {
    "flask": "framework",
    "werkzeug": "framework",
    "dualreg.auth": "guard",
    "dualreg.networks": "guard",
    "dualreg.patterns": "guard",
    "dualreg.web.address": "guard",
    "dualreg.web.audit": "guard",
    "dualreg.web.credentials": "guard",
    "dualreg.web.forwarded": "guard",
    "dualreg.web.guard": "guard",
    "dualreg.web.rates": "guard",
    "jwt": "guard",
    "cryptography": "guard",
    "bcrypt": "guard",
    "sqlalchemy": "SQL",
    "dualreg.catalog": "SQL",
    "dualreg": _REST,
}
PARTS = (_SERVER, *dict.fromkeys(_PARTS.values()))
#: Seconds of processor time between two samples; kernels look only at each of their ticks, of 4 ms or so.
_INTERVAL = 0.001
#: Samples for each second of load.
_SAMPLES = 500
_MICRO = 1e6
#: Measurements of the total and of a call, in turn, of each of which the median counts.
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Profile:
    """Microseconds of processor time for a request.

    Attributes:
        parts: They add up to the total; empty if only that is known.
    """

    row: str
    server: str
    total: float
    parts: dict[str, float]


def profiles(rows: Sequence[Row], servers: Sequence[Server], seconds: float) -> Iterator[Profile]:
    """Yield the profile of each row that has one request, on each of *servers* that runs on this machine."""
    for row in rows:
        for server in servers:
            if row.ask and row.fits(server) and server.pids:
                ask = row.ask(server)
                asked = server.issuer if server.issuer and ask.host == server.issuer.host else server
                alone = server.ours and len(server.pids) == 1  # without nginx
                total, parts = (_divided if alone else _whole)(ask, asked, seconds)
                yield Profile(row.title, server.name, total, parts)


def text(found: Sequence[Profile]) -> str:
    """Return the table."""
    rows = [["request", "server", "total", *PARTS]]
    rows += [
        [each.row, each.server, figure(each.total), *(figure(each.parts.get(part)) for part in PARTS)]
        for each in found
    ]
    return "\n".join([*table(rows, words=2), "", "microseconds of processor time for a request", ""])


def _whole(ask: Ask, server: Server, seconds: float) -> tuple[float, dict[str, float]]:
    """Return the processor time of a request, in microseconds."""
    loaded = ask.loader(seconds / _ROUNDS)
    return statistics.median(_total(loaded, server) for _ in range(_ROUNDS)), {}


def _divided(ask: Ask, server: Server, seconds: float) -> tuple[float, dict[str, float]]:
    """Return the processor time of a request, in microseconds, and that of its parts."""
    loaded = ask.loader(seconds / _ROUNDS)
    with _calling(ask, server) as call:
        pairs = [(_total(loaded, server), _time_of(call, seconds / _ROUNDS)) for _ in range(_ROUNDS)]
        samples = _sample(call, round(_SAMPLES * seconds))
    total, own = map(statistics.median, zip(*pairs, strict=True))
    share = own / samples.total()
    parts = {part: samples[part] * share for part in PARTS if part != _SERVER}
    return total, {_SERVER: total - sum(parts.values()), **parts}


def _total(loaded: Callable[[], Answered], server: Server) -> float:
    """Return the processor time of a request under load, in microseconds."""
    before = processor_time(server.pids)
    count = loaded().count
    return (processor_time(server.pids) - before) / count


def processor_time(pids: Iterable[int]) -> float:
    """Return how many microseconds processes and their children have been on a processor."""
    return sum(_on_processor(process) for pid in pids for process in (pid, *children(pid))) / 1000


def _on_processor(pid: int) -> int:
    """Return how many nanoseconds the threads of a process have been on a processor."""
    found = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in found)


@contextmanager
def _calling(ask: Ask, server: Server) -> Iterator[Callable[[], None]]:
    """Yield a function that makes the request in this process."""
    chosen = Settings.model_validate({"data": server.root, **settings(accounts=server.accounts)})
    app = create_app(chosen)
    environ = create_environ(ask.path, f"http://{ask.host}", method=ask.method, headers=dict(ask.headers))
    environ |= {"REMOTE_ADDR": "127.0.0.1", "RAW_URI": ask.path, "wsgi.file_wrapper": FileWrapper}
    for value in ask.ranges[:1]:
        environ["HTTP_RANGE"] = value
    try:
        yield lambda: _call(app, {**environ, "wsgi.input": io.BytesIO()}, ask.status)
    finally:
        close(app)


def _call(app: Flask, environ: dict[str, Any], expected: int) -> None:
    """Make a request as gunicorn does; a file is not read, since the kernel sends it.

    Raises:
        Refused: the status is not the expected one.
    """
    statuses: list[str] = []
    body: Any = app(environ, lambda status, _headers, _error=None: statuses.append(status))
    if not isinstance(body, FileWrapper):
        b"".join(body)
    if hasattr(body, "close"):
        body.close()
    if not statuses[0].startswith(str(expected)):
        raise Refused(f"{environ['REQUEST_METHOD']} {environ['RAW_URI']}: {statuses[0]}")


def _time_of(call: Callable[[], None], seconds: float) -> float:
    """Return the processor time of a call, in microseconds."""
    call()
    count, began, end = 0, time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        call()
        count += 1
    return (time.process_time() - began) / count * _MICRO


def _sample(call: Callable[[], None], samples: int) -> Counter[str]:
    """Call until so many samples are taken; return how many each part has."""
    found = Counter[str]()
    before = signal.signal(signal.SIGPROF, lambda _, frame: found.update([_part(frame)]))
    signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)
    try:
        while found.total() < samples:
            call()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return found


def _part(frame: FrameType | None) -> str:
    """Return the part of the innermost function that belongs to one; outside of all it is the server's."""
    while frame:
        if part := _part_of(frame.f_globals.get("__name__", "")):
            return part
        frame = frame.f_back
    return _SERVER


@cache
def _part_of(module: str) -> str | None:
    """Return the part of a module: that of the longest name that it begins with."""
    while module:
        if module in _PARTS:
            return _PARTS[module]
        module = module.rpartition(".")[0]
    return None
