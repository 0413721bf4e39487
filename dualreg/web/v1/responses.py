"""Responses and request bodies of the V1 dialect."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from flask import Response, request

from dualreg.errors import RequestInvalid
from dualreg.web.body import read_limited
from dualreg.web.responses import json_response

#: Maximum size of a V1 document in bytes: image JSONs grow with labels and commands, but not this large.
DOCUMENT_LIMIT = 4 << 20

#: When immutable content was last modified.  Source: docker-registry 0.9, ``images.py``.
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
_IMMUTABLE = {"Cache-Control": "private, max-age=31536000", "Last-Modified": "Thu, 01 Jan 1970 00:00:00 GMT"}
_UNCACHED = {"Cache-Control": "no-cache", "Pragma": "no-cache", "Expires": "-1"}


def uncached_json(
    value: object = True,  # noqa: FBT002 -- V1's "true" is a value
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return *value* as JSON that must not be cached; V1's plain success is ``true``."""
    return json_response(value, status=status, headers=_UNCACHED | dict(headers or {}))


def immutable(response: Response, version: str) -> Response:
    """Return the response as cacheable for ever, or a 304 if the client has it.

    Args:
        version: The ``ETag``.
    """
    response.headers.update(_IMMUTABLE)
    response.set_etag(version)
    if is_held(version):
        response.status_code = 304
    return response


def is_held(version: str) -> bool:
    """Return whether the client has immutable content of this ``ETag``, as its request says.

    Source: RFC 9110, section 13.2.2; If-Match is ignored, as by all reads.
    """
    if request.if_none_match:
        return request.if_none_match.contains_weak(version)
    since = request.if_modified_since
    return since is not None and since >= _ALWAYS


def read_json() -> object:
    """Return the request's body, parsed as JSON.

    Raises:
        RequestInvalid: it is not JSON.
    """
    try:
        return json.loads(read_limited(DOCUMENT_LIMIT))
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(reason="Error Decoding JSON") from error
