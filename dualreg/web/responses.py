"""Responses: the few shapes that answers of both dialects have, and the sorts that both tell apart."""

import json
from collections.abc import Mapping
from http import HTTPStatus

from flask import Response, request

#: Methods of requests that change nothing.
READS = ("GET", "HEAD", "OPTIONS")
#: Statuses of answers to those who may not, or not yet.
DENIALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS)


def empty(status: int, headers: Mapping[str, str]) -> Response:
    """Return an answer without a body."""
    response = Response(status=status, headers={**headers, "Content-Length": "0"})
    response.headers.pop("Content-Type", None)
    return response


def allow_header() -> dict[str, str]:
    """Return what a 405 must say: the methods that this URL takes, but for the one that was refused."""
    methods = request.url_rule.methods if request.url_rule else None
    return {"Allow": ", ".join(sorted((methods or set()) - {request.method}))}


def document(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return *value* as JSON."""
    body = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return Response(body, status=status, headers=headers, content_type="application/json")
