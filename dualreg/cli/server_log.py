"""Server log: what gunicorn's logs say, in the form of ours, and what they must not say."""

import errno
import logging
import re
import ssl
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

from dualreg.logs.handler import LineHandler, log_messages
from dualreg.logs.lines import Format, formatter
from dualreg.logs.requests import Request, request_log
from dualreg.messages import safe_line
from dualreg.web import identified
from dualreg.web.forwarded import ADDRESS
from dualreg.web.outages import outage_of

#: The name of the line that ``logs.requests`` describes, among gunicorn's formats.
LOG_FORMAT = "dualreg"
#: The stream that gunicorn means by a dash.
_STANDARD = "-"
#: Characters of texts that clients choose, in lines of other formats.
_TEXT_LIMIT = 300
#: gunicorn's warning of a request whose first line is not HTTP.
_NOT_HTTP = re.compile(
    r"Invalid request from ip=\S*: Invalid HTTP (?:request line|method|version)", re.IGNORECASE
)
#: What the network does to connections.
_NETWORK = (
    errno.ECONNABORTED, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
    errno.ENETRESET, errno.ENETUNREACH, errno.ENOTCONN, errno.EPIPE, errno.ETIMEDOUT,
)  # fmt: skip


class ServerLog(Logger):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's logs, without secrets and control characters, and without what does not speak HTTP.

    gunicorn logs the user name of Basic credentials unescaped: it could be a secret, or forge a log line.
    Here, a line has an account only if its credentials were right.

    Of connections that do not speak HTTP there are many, and nothing is wrong: Docker tries TLS first with
    every registry that it need not use TLS with.

    Attributes:
        format: Of all lines.
    """

    format: Format = "text"

    def warning(self, msg: object, *args: object, **options: Any) -> None:  # noqa: ANN401 -- gunicorn's, untyped
        log = super().info if _NOT_HTTP.match(str(msg)) else super().warning
        log(msg, *args, **options)

    def exception(self, msg: object, *args: object, **options: Any) -> None:  # noqa: ANN401 -- gunicorn's, untyped
        """Log an error with its traceback; of an outage or the network in the middle of an answer, a line."""
        error = sys.exc_info()[1]
        if outage := outage_of(error):
            self.warning("an answer broke off: %s", outage.reason)
        elif isinstance(error, TimeoutError) or (isinstance(error, OSError) and error.errno in _NETWORK):
            self.warning("the connection to a client broke: %s", error)
        else:
            super().exception(msg, *args, **options)

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:  # noqa: ANN401 -- gunicorn's, untyped
        """Log a request that was answered, as far as it was."""
        if not self.access_log_enabled or is_replaced(resp):
            return
        if self.cfg.access_log_format != LOG_FORMAT:
            super().access(resp, req, environ, request_time)
            return
        status, is_cut = str(resp.status)[:3], sys.exc_info()[0] is not None
        seconds = request_time.total_seconds()
        self.request(
            environ, int(status) if status.isdigit() else 0, bytes_sent(resp), seconds, is_cut=is_cut
        )

    def request(
        self, environ: Mapping[str, Any], status: int, sent: int, seconds: float, *, is_cut: bool = False
    ) -> None:
        """Log a request, given what its environment, or what could be read of that, says.

        Args:
            sent: Bytes of the body.
            is_cut: Whether the answer broke off.
        """
        if not self.access_log_enabled:
            return
        get = environ.get
        line = Request(
            **identified.facts(environ),
            method=get("REQUEST_METHOD", "-"),
            path=get("RAW_URI", "-").partition("?")[0],
            protocol=get("SERVER_PROTOCOL", "-"),
            status=status,
            sent=sent,
            seconds=seconds,
            referer=get("HTTP_REFERER", ""),
            agent=get("HTTP_USER_AGENT", ""),
            is_cut=is_cut,
        )
        self._log_request(line)

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> dict[str, Any]:  # noqa: ANN401 -- gunicorn's, untyped
        """Return what lines of another format are made of."""
        path = str(environ["RAW_URI"]).partition("?")[0]
        own = {
            "h": safe_line(environ.get(ADDRESS) or environ.get("REMOTE_ADDR", "-")),
            "l": "-",
            "u": "-",
            "t": self.now(),
            "q": "",
            "r": safe_line(f"{environ['REQUEST_METHOD']} {path} {environ['SERVER_PROTOCOL']}"),
            "s": str(resp.status).partition(" ")[0],
            "b": bytes_sent(resp),
            "f": safe_line(environ.get("HTTP_REFERER", "-")[:_TEXT_LIMIT]),
            "a": safe_line(environ.get("HTTP_USER_AGENT", "-")[:_TEXT_LIMIT]),
            "L": f"{request_time.total_seconds():.6f}",
        }
        atoms = super().atoms(resp, req, environ, request_time).items()
        return {name: safe_line(atom) if isinstance(atom, str) else atom for name, atom in atoms} | own

    def setup(self, cfg: Any) -> None:  # noqa: ANN401 -- gunicorn's, untyped
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter(self.format))
        log_messages(self.format, cfg.loglevel)
        write: Callable[[str], object] = partial(
            self.access_log.info, "%s"
        )  # to whatever options of gunicorn name
        if len(self.access_log.handlers) == 1 and isinstance(self.access_log.handlers[0], LineHandler):
            write = self.access_log.handlers[0].output.write
        self._log_request = request_log(self.format, write)

    def _set_handler(self, log: logging.Logger, output: str | None, fmt: Any, stream: Any = None) -> None:  # noqa: ANN401 -- gunicorn's, untyped
        """Write to a stream without waiting for its reader; to a file as gunicorn does."""
        is_pipe = output not in (None, _STANDARD) and Path(output).is_fifo()
        if output != _STANDARD and not is_pipe:
            super()._set_handler(log, output, fmt, stream)
            return
        if is_pipe:
            stream = Path(str(output)).open("a")  # noqa: SIM115 -- for as long as the process lives
        handler = LineHandler(stream or sys.stderr, self.format, owned=is_pipe)
        handler.setFormatter(fmt)
        handler._gunicorn = True  # type: ignore[attr-defined]  # noqa: SLF001 -- by which gunicorn finds it
        log.addHandler(handler)

    def _get_user(self, environ: dict[str, Any]) -> None:
        """Read no credentials."""


class JsonServerLog(ServerLog):
    """The same, of lines of JSON."""

    format = "json"


def is_replaced(resp: Any) -> bool:  # noqa: ANN401 -- gunicorn's, untyped
    """Return whether ``Worker.handle_error`` answers instead of this response, and logs and counts that.

    It does so if the application or TLS has failed before anything was sent, but not if the client is gone.
    """
    error = sys.exc_info()[1]
    if error is None or getattr(resp, "headers_sent", True):
        return False
    if isinstance(error, ssl.SSLError):
        return error.errno != ssl.SSL_ERROR_EOF
    return not isinstance(error, OSError)


def bytes_sent(resp: Any) -> int:  # noqa: ANN401 -- gunicorn's, untyped
    """Return how much of the body was handed to the network, also by sendfile, and if it broke off."""
    counted = getattr(getattr(resp, "sock", None), "body_sent", None)
    if counted is None:
        return int(resp.sent)
    framed = resp.chunked and resp.sent  # what marks the chunks was counted, too
    return int(min(counted, resp.sent) if framed else counted)
