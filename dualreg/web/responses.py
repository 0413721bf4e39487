"""Responses: the few shapes that answers of both dialects have."""

import json
from collections.abc import Mapping

from flask import Response


def empty(status: int, headers: Mapping[str, str]) -> Response:
    """Return an answer without a body."""
    response = Response(status=status, headers={**headers, "Content-Length": "0"})
    response.headers.pop("Content-Type", None)
    return response


def document(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return *value* as JSON."""
    body = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return Response(body, status=status, headers=headers, content_type="application/json")
