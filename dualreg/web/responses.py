"""Responses: the forms that both dialects share, and the classes of requests and statuses."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from flask import Response, request
from werkzeug.datastructures import Headers

from dualreg.errors import RegistryError, UpstreamFailed

#: Where the WSGI environment has a file that the server may send itself: its reader and the first byte.
FILE = "dualreg.file"
#: Where it has the route that took the request, and how many bytes of its body were received.
ROUTE, RECEIVED = "dualreg.route", "dualreg.received"
#: What comes before the name of a parameter in a route.
_CONVERTER = re.compile(r"<\w+:")
#: Methods that change nothing.
READS = ("GET", "HEAD", "OPTIONS")
#: By which clients find out whether the V2 API is served, and how to log in.
API_CHECKS = ("/v2", "/v2/")
#: Warnings that are for people, and that a response is stale.  Source: RFC 7234, section 5.5.
MISCELLANEOUS, _STALE = 299, 110
#: The blueprint of questions about requests that follow, if the answer is no.
PROBES = "accel"
#: Statuses of responses that never have a body, of those that are made here; locations that no server has to
#: escape.
_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
_PLAIN = re.compile(r"/v2/[a-z0-9_./:-]+(?:\?offset=[0-9]+)?")
#: Statuses of requests that are not, or not yet, authorized.
DENIALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)


@cache
def route_name(route: str) -> str:
    """Return what people and metrics call a route of the application: without the kinds of its parameters."""
    return _CONVERTER.sub("<", route)


class Made(Response):
    """A response that is complete when it is made: of each header and of its body, it is known what they are.

    What Flask's responses find out of that, when they are made and when they are sent, is not asked again.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Have *body*, whose length is one of the *headers*."""
        self.__dict__ |= _common(status)
        self.headers = _Headers(headers)
        self.response = [body] if body else []
        self._on_close = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 -- WSGI
        """Begin the response; return its body."""
        location = self.headers.get("Location")
        is_plain = location is None or _PLAIN.fullmatch(location)
        if self._on_close or self.status_code in _WITHOUT_BODY or not is_plain:
            return super().__call__(environ, start_response)
        start_response(self.status, self.headers.to_wsgi_list())
        return () if environ["REQUEST_METHOD"] == "HEAD" else self.iter_encoded()


class _Headers(Headers):
    """Headers that the server checks when it sends them."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._list = [*headers.items()]


@cache
def _common(status: int) -> Mapping[str, Any]:
    """Return what Flask gives to all responses with a status, beside what ``Made`` has of its own."""
    own = ("headers", "response", "_on_close")
    return {name: value for name, value in vars(Response(status=status)).items() if name not in own}


def empty_response(status: int, headers: Mapping[str, str]) -> Response:
    """Return a response without a body."""
    return Made(status, {**headers, "Content-Length": "0"})


def allow_header() -> dict[str, str]:
    """Return the Allow header of a 405: the methods of this URL except the refused one."""
    methods = request.url_rule.methods if request.url_rule else None
    return {"Allow": ", ".join(sorted((methods or set()) - {request.method}))}


def retry_header(error: RegistryError) -> dict[str, str]:
    """Return the Retry-After header of an error that says when to try again; of others none."""
    wait = error.facts().get("retry_after")
    return {} if wait is None else {"Retry-After": f"{wait}"}


def passed_status(error: RegistryError) -> int | None:
    """Return the status of the error that an upstream registry answered, as it is passed on; None of others.

    A client that has logged in here cannot do so there: that credentials of ours are rejected is a 403.
    """
    if not isinstance(error, UpstreamFailed):
        return None
    return HTTPStatus.FORBIDDEN if error.status == HTTPStatus.UNAUTHORIZED else error.status


def add_warnings(response: Response, texts: Iterable[str], code: int = MISCELLANEOUS) -> None:
    """Add texts for people, which V2 clients show to their users.

    Args:
        code: What they are about.

    Source: OCI distribution-spec v1.1, "Warnings".
    """
    for text in texts:
        plain = text.encode("ascii", "replace").decode()  # what other registries say may be anything
        quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'{code} - "{quoted}"')


def add_stale(response: Response, reason: str) -> None:
    """Say why a response may be older than what is upstream; empty: it is not.

    Source: RFC 7234, section 5.5.1.
    """
    if reason:
        add_warnings(response, [f"Response is Stale: {reason}"], _STALE)


def json_response(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return *value* as JSON, with sorted keys."""
    body = _encoder().encode(value).encode()
    own = {"Content-Type": "application/json", "Content-Length": f"{len(body)}"}
    return Made(status, {**(headers or {}), **own}, body)


@cache  # to make one takes as long as to encode an error
def _encoder() -> json.JSONEncoder:
    return json.JSONEncoder(sort_keys=True)
