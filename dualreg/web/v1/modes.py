"""Modes: whether V1 is served whole, for reading only, or not at all, as the setting ``v1`` says.

Old Dockers show their users the body of most refusals, so what the operator wrote reaches a person.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import abort, g, request

from dualreg.web.context import settings
from dualreg.web.responses import READS
from dualreg.web.v1.errors import render_status

#: Served even when V1 is off: today's ``docker search`` knows no other, and without an answered ping an old
#: Docker prints that this is no registry instead of the reason.
_ALWAYS = ("/v1/_ping", "/v1/search")
#: Part of ``docker login``, which somebody who only pulls does too; nothing is written.
_LOGIN = "/v1/users/"


def refuse_closed(_: str | None, __: Mapping[str, Any] | None) -> None:
    """End a V1 request that the mode does not allow.

    It runs before anything of the URL is parsed, so that a refused client hears the reason and nothing else.
    """
    mode, path = settings().v1, request.path
    if mode == "on" or path.split("/")[1] != "v1" or path.rstrip("/") in _ALWAYS:
        return
    if mode == "off":
        g.v1_refused = True
        abort(render_status(HTTPStatus.NOT_FOUND, settings().v1_reason, {}))
    if request.method not in READS and not path.startswith(_LOGIN):
        g.v1_refused = True
        abort(render_status(HTTPStatus.METHOD_NOT_ALLOWED, settings().v1_reason, {"Allow": "GET, HEAD"}))
