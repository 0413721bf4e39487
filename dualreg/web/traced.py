"""Traced: a span for each request, in front of all that answers one (the setting ``tracing``).

A span has what the line of the request in the log has, except what identifies people or what they send: no
address, no User-Agent, no query, no header. Its name is one of few: the method and the route.
"""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from werkzeug.wsgi import ClosingIterator

from dualreg.logs.lines import bind_trace
from dualreg.tracing.spans import enter
from dualreg.web.identified import ACCOUNT, ID, REPOSITORY, TRACE, Environ
from dualreg.web.responses import ROUTE, route_name
from dualreg.web.slots import call_on_close

if TYPE_CHECKING:
    from dualreg.tracing.exporting import RequestSpan, Tracing

#: Methods that are named as they were sent.  Source: OpenTelemetry's conventions for HTTP.
_METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
#: Headers by which a client says which trace its request is part of.
_SENT = {"HTTP_TRACEPARENT": "traceparent", "HTTP_TRACESTATE": "tracestate"}
#: The first status that is a failure of the server.
_FAILURE = 500


class Traced:
    """The WSGI application that has another one traced."""

    def __init__(self, application: Callable[[Environ, Any], Iterable[bytes]], tracing: "Tracing") -> None:
        """Stand before *application*."""
        self._application, self._tracing = application, tracing

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 -- WSGI
        """Answer a request."""
        sent_method = environ["REQUEST_METHOD"]
        method = sent_method if sent_method in _METHODS else "_OTHER"
        sent = {name: environ[key] for key, name in _SENT.items() if key in environ}
        span = self._tracing.request(_name(method), {"http.request.method": method}, sent)
        environ[TRACE] = span.trace_id
        bind_trace(span.trace_id)
        enter(span)
        statuses = [0]

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:  # noqa: ANN401 -- WSGI
            statuses[0] = int(status[:3])
            return start_response(status, headers, *more)

        end = partial(_end, span, method, environ, statuses)
        try:
            body = self._application(environ, start)
        except BaseException:
            end()
            raise
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(body, wrapper):
            call_on_close(body, end)  # the server has to get its own
            return body
        return ClosingIterator(body, end)


def _end(span: "RequestSpan", method: str, environ: Environ, statuses: list[int]) -> None:
    """End the span of a request that was answered, as far as it was."""
    enter(None)
    route, status, error = route_name(environ.get(ROUTE, "")), statuses[0], sys.exc_info()[0]
    span.rename(_name(method, route))
    facts = {
        "http.route": route,
        "dualreg.request_id": environ.get(ID, ""),
        "dualreg.repository": environ.get(REPOSITORY, ""),
        "enduser.id": environ.get(ACCOUNT, ""),
        "http.response.status_code": status,
    }
    span.set({name: value for name, value in facts.items() if value})
    is_failure = status >= _FAILURE
    span.end(error.__name__ if error else f"{status}" if is_failure else "")


def _name(method: str, route: str = "") -> str:
    """Return the name of a span, one of few.  Source: OpenTelemetry's conventions for HTTP."""
    return f"{'HTTP' if method == '_OTHER' else method} {route}".rstrip()
