"""The V1 dialect's usual answers and request bodies."""

import json
from collections.abc import Mapping

from flask import Response, request

from dualreg.errors import RequestInvalid
from dualreg.web.body import read_limited
from dualreg.web.responses import document

#: Bytes of the largest V1 document taken: image JSONs grow with labels and commands, never near this.
DOCUMENT_LIMIT = 4 << 20

#: When what never changes was changed.  Source: docker-registry 0.9, ``images.py``.
_ALWAYS = "Thu, 01 Jan 1970 00:00:00 GMT"
_UNCACHED = {"Cache-Control": "no-cache", "Pragma": "no-cache", "Expires": "-1"}


def answer(value: object = True, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:  # noqa: FBT002 -- V1's "true" is a value
    """Return *value* as JSON, never to be cached; V1's plain success is ``true``."""
    return document(value, status=status, headers=_UNCACHED | dict(headers or {}))


def immutable(response: Response, version: str) -> Response:
    """Let clients keep an answer for good, and spare them one that they have.

    Args:
        version: What the answer's ``ETag`` is.
    """
    response.headers.update({"Cache-Control": "private, max-age=31536000", "Last-Modified": _ALWAYS})
    response.set_etag(version)
    response.make_conditional(request)
    return response


def read_json() -> object:
    """Return the request's body as JSON.

    Raises:
        RequestInvalid: it is none.
    """
    try:
        return json.loads(read_limited(DOCUMENT_LIMIT))
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(reason="Error Decoding JSON") from error
