"""Mode: the V1 API is served in full, read-only, or not at all (``registry.v1_mode``).

Old Docker shows its users the body of most refusals, so the operator's ``v1_reason`` reaches them.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import abort, g, request

from dualreg.registry.v1_mode import V1Mode
from dualreg.web.context import registry, settings
from dualreg.web.current import current_request
from dualreg.web.responses import READS
from dualreg.web.v1.errors import render_status

#: Served even when V1 is off: ``docker search`` still uses it, and old Docker shows the reason only after a
#: successful ping.
_ALWAYS = ("/v1/_ping", "/v1/search")
#: Docker that has no other API to pull by.
_PULLS_OVER_V1 = re.compile(r"docker/(?:0\.|1\.[0-5]\.)", re.ASCII)
#: Used by ``docker login``, also before a pull; writes nothing.
_LOGIN = "/v1/users/"


def _status_of_off() -> HTTPStatus:
    """Return the status that tells a client most.

    Docker before 1.6 translates a 404 to its pull into "image not found", and shows any other status.
    """
    pulls = request.method in READS and request.path.rstrip("/").endswith("/images")
    old = _PULLS_OVER_V1.match(request.user_agent.string) is not None
    return HTTPStatus.GONE if pulls and old else HTTPStatus.NOT_FOUND


def enforce_mode(_: str | None, __: Mapping[str, Any] | None) -> None:
    """Abort a V1 request that the mode does not allow.

    It runs before the URL's values are parsed, so that a refused client always gets the reason.
    """
    path = current_request().path
    if path.split("/")[1] != "v1" or path.rstrip("/") in _ALWAYS:
        return
    if (mode := mode_of_v1()) is V1Mode.OFF:
        g.v1_refused = True
        abort(render_status(_status_of_off(), settings().v1_reason, {}))
    if mode is V1Mode.READONLY and request.method not in READS and not path.startswith(_LOGIN):
        g.v1_refused = True
        abort(render_status(HTTPStatus.METHOD_NOT_ALLOWED, settings().v1_reason, {"Allow": "GET, HEAD"}))


def mode_of_v1() -> V1Mode:
    """Return how much of the V1 API is served; what was switched longer ago than a second counts."""
    return registry().v1_switch.mode(settings().v1)
