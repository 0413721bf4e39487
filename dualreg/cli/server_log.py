"""Server log: what gunicorn's logs say, and what they must not say."""

import re
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger

from dualreg.messages import LogFormatter, safe_line
from dualreg.web.outages import outage_of
from dualreg.web.responses import FILE

#: gunicorn's format, and the seconds that the request took.
LOG_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(L)s'
#: Characters of the Referer and User-Agent that are logged; both may be as long as headers may be.
_TEXT_LIMIT = 300
#: gunicorn's warning of a request whose first line is not HTTP.
_NOT_HTTP = re.compile(
    r"Invalid request from ip=\S*: Invalid HTTP (?:request line|method|version)", re.IGNORECASE
)


class ServerLog(Logger):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's logs, without secrets and control characters, and without what does not speak HTTP.

    gunicorn logs the user name of Basic credentials unescaped: it could be a secret, or forge a log line. The
    audit log says who did what. The line ends with the seconds that the request took.

    Of connections that do not speak HTTP there are many, and nothing is wrong: Docker tries TLS first with
    every registry that it need not use TLS with.
    """

    def warning(self, msg: object, *args: object, **options: Any) -> None:  # noqa: ANN401 -- gunicorn's, untyped
        log = super().info if _NOT_HTTP.match(str(msg)) else super().warning
        log(msg, *args, **options)

    def exception(self, msg: object, *args: object, **options: Any) -> None:  # noqa: ANN401 -- gunicorn's, untyped
        """Log an error with its traceback; of an outage in the middle of an answer, a line."""
        outage = outage_of(sys.exc_info()[1])
        if outage:
            self.error("an answer broke off: %s", outage.reason)
        else:
            super().exception(msg, *args, **options)

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> dict[str, Any]:  # noqa: ANN401 -- gunicorn's, untyped
        path = str(environ["RAW_URI"]).partition("?")[0]
        own = {
            "h": environ.get("REMOTE_ADDR", "-"),
            "l": "-",
            "u": "-",
            "t": self.now(),
            "q": "",
            "r": safe_line(f"{environ['REQUEST_METHOD']} {path} {environ['SERVER_PROTOCOL']}"),
            "s": str(resp.status).partition(" ")[0],
            "b": bytes_sent(resp, environ),
            "f": safe_line(environ.get("HTTP_REFERER", "-")[:_TEXT_LIMIT]),
            "a": safe_line(environ.get("HTTP_USER_AGENT", "-")[:_TEXT_LIMIT]),
            "L": f"{request_time.total_seconds():.6f}",
        }
        if self.cfg.access_log_format == LOG_FORMAT:
            return own
        atoms = super().atoms(resp, req, environ, request_time).items()
        return {name: safe_line(atom) if isinstance(atom, str) else atom for name, atom in atoms} | own

    def setup(self, cfg: Any) -> None:  # noqa: ANN401 -- gunicorn's, untyped
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(LogFormatter(self.error_fmt, self.datefmt))

    def _get_user(self, environ: dict[str, Any]) -> None:
        """Read no credentials."""


def bytes_sent(resp: Any, environ: Mapping[str, Any]) -> int:  # noqa: ANN401 -- gunicorn's, untyped
    """Return how much of the body was sent; gunicorn does not count what sendfile sends."""
    if resp.sent or FILE not in environ:
        return int(resp.sent)
    if sys.exc_info()[0] is None:
        return int(resp.response_length or 0)
    reader, start = environ[FILE]
    return int(reader.tell() - start)  # an interrupted sendfile leaves the reader behind the last byte sent
