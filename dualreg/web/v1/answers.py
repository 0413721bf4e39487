"""The V1 dialect's usual answers and request bodies."""

import json
from collections.abc import Mapping

from flask import Response

from dualreg.errors import RequestInvalid
from dualreg.web.body import read_limited
from dualreg.web.responses import document

#: Bytes of the largest V1 document taken: image JSONs grow with labels and commands, never near this.
DOCUMENT_LIMIT = 4 << 20

_UNCACHED = {"Cache-Control": "no-cache", "Pragma": "no-cache", "Expires": "-1"}


def answer(value: object = True, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:  # noqa: FBT002 -- V1's "true" is a value
    """Return *value* as JSON, never to be cached; V1's plain success is ``true``."""
    return document(value, status=status, headers=_UNCACHED | dict(headers or {}))


def read_json() -> object:
    """Return the request's body as JSON.

    Raises:
        RequestInvalid: it is none.
    """
    try:
        return json.loads(read_limited(DOCUMENT_LIMIT))
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(reason="Error Decoding JSON") from error
