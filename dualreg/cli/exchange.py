"""Exchange: what the application gets of a plain request that a thread handles, and how its answer is sent.

gunicorn's own functions decide on both, and those of other requests are left to them. What they make anew for
each request, although it is the same for all, is made once here.
"""

import io
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import lru_cache
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi

from dualreg.cli.options import environment as variables
from dualreg.cli.parsing import PlainRequest
from dualreg.cli.plain_requests import Head
from dualreg.cli.plain_requests import environment as environment_of

#: Settings of gunicorn that call something for each request.
_HOOKS = ("post_request", "pre_request")
#: Names of headers of responses that are remembered.
_NAMES = 200


def is_usual(cfg: Any) -> bool:  # noqa: ANN401 -- gunicorn's
    """Return whether gunicorn, with this configuration, does nothing else for a request than is done here."""
    has_hooks = any(cfg.settings[name].get() != cfg.settings[name].default for name in _HOOKS)
    return not has_hooks and "SCRIPT_NAME" not in variables()


class Response(wsgi.Response):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's response, which finds out once what it is to do with a header, and what time it is."""

    def process_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        """Take the headers, or have gunicorn refuse them, or take those that are about the connection."""
        values = "".join([value for _, value in headers])
        if not wsgi.HEADER_VALUE_RE.fullmatch(values) or not all(_is_plain(name) for name, _ in headers):
            super().process_headers(headers)
            return
        for name, value in headers:
            if _is_length(name):
                self.response_length = int(value)
            self.headers.append((name, value.strip(" \t")))

    def default_headers(self) -> list[str]:
        """Return the lines before the headers of the application."""
        if self.upgrade or self.chunked:
            lines: list[str] = super().default_headers()
            return lines
        connection = "close" if self.should_close() else "keep-alive"
        return [f"HTTP/1.1 {self.status}\r\n{_common(self.version, int(time.time()))}{connection}\r\n"]


@lru_cache(_NAMES)
def _is_plain(name: str) -> bool:
    """Return whether a header of a response has a name that is valid, and is not about the connection."""
    return wsgi.TOKEN_RE.fullmatch(name) is not None and not util.is_hoppish(name)


@lru_cache(_NAMES)
def _is_length(name: str) -> bool:
    return name.lower() == "content-length"


@lru_cache(4)
def _common(server: str, _: int) -> str:
    """Return what the heads of all responses have in common in one second."""
    return f"Server: {server}\r\nDate: {util.http_date()}\r\nConnection: "


class _Errors(io.RawIOBase):
    """Where applications may write: to the streams that gunicorn's log has then."""

    def __init__(self, cfg: Any) -> None:  # noqa: ANN401 -- gunicorn's
        self._cfg = cfg

    def write(self, data: Any, /) -> None:  # noqa: ANN401 -- as gunicorn's
        wsgi.WSGIErrorsWrapper(self._cfg).write(data)


def common_environment(cfg: Any, sock: Any, client: Any, server: Any) -> dict[str, Any]:  # noqa: ANN401 -- gunicorn's
    """Return what the environments of all plain requests on a connection have in common."""
    request = PlainRequest(cfg, None, client, Head("", "", "", "", {}, 0))
    environ: dict[str, Any] = wsgi.create(request, sock, client, server, cfg)[1]
    del environ["wsgi.early_hints"]  # of the response
    return environ | {"wsgi.errors": _Errors(cfg), "wsgi.multithread": True}


def answer(
    app: Callable[..., Iterable[bytes]],
    request: PlainRequest,
    connection: Any,  # noqa: ANN401 -- a gunicorn's, with what is common to its requests
    log: Any,  # noqa: ANN401 -- gunicorn's
) -> bool:
    """Have the application answer a request; return whether the connection can take another one.

    Raises:
        OSError: the client is gone, or too slow.
        StopIteration: the answer broke off.
        Exception: what the application raised before its answer began.
    """
    began = time.perf_counter()
    response = Response(request, connection.sock, connection.cfg)
    environ = environment(request, connection)
    try:
        body = app(environ, response.start_response)
        try:
            _send(body, response)
        finally:
            log.access(response, request, environ, timedelta(seconds=time.perf_counter() - began))
            getattr(body, "close", _nothing)()
    except OSError:
        raise
    except (Exception, SystemExit):
        if not response.headers_sent:
            raise
        log.exception("Error handling request")
        util.close_graceful(connection.sock)
        raise StopIteration from None
    return not response.should_close()


def environment(request: PlainRequest, connection: Any) -> dict[str, Any]:  # noqa: ANN401 -- as of ``answer``
    """Return the WSGI environment of a request."""
    if isinstance(connection.server, str):  # a Unix socket, to which gunicorn gives the name that was asked
        environ: dict[str, Any] = wsgi.create(
            request, connection.sock, connection.client, connection.server, connection.cfg
        )[1]
        return environ | {"wsgi.multithread": True}
    return {**connection.common, "wsgi.input": request.body, **environment_of(request.head)}


def _send(body: Iterable[bytes], response: Response) -> None:
    if isinstance(body, wsgi.FileWrapper):
        response.write_file(body)
    else:
        for piece in body:
            response.write(piece)
    response.close()


def _nothing() -> None:
    pass
