"""Clients: record the sender of every V1 request, for ``dualreg clients``."""

import re
from contextlib import suppress
from functools import partial
from http import HTTPStatus

from flask import Response, g, request

from dualreg.errors import NameInvalid
from dualreg.image.names import RepositoryName
from dualreg.web.context import registry
from dualreg.web.credentials import token_repository
from dualreg.web.current import current_request
from dualreg.web.forwarded import client_address
from dualreg.web.repeatable import note_repeats
from dualreg.web.responses import DENIALS, READS

#: Requests that current clients send too.
_IGNORED = ("/v1/_ping", "/v1/search")


#: Docker that speaks V2, and falls back to V1 if an image is unknown there: 1.6 to 1.13, 17.03 and later.
_FALLING_BACK = re.compile(r"docker/(?:1\.(?:[6-9]|[1-9][0-9])|[1-9][0-9])\.", re.ASCII)


def record_client(response: Response) -> Response:
    """Record the client, and whether the mode refused it (see ``mode``); return *response* unchanged."""
    path = current_request().path
    if path.split("/")[1] == "v1" and path.rstrip("/") not in _IGNORED and not _is_vain(response):
        # Unauthorized clients must not fill the table with invented names.
        repository = "" if response.status_code in DENIALS else _repository()
        refused = "v1_refused" in g
        record = partial(registry().clients.record, repository=repository, refused=refused)
        record(client_address(), request.user_agent.string)
        note_repeats(record)
    return response


def _is_vain(response: Response) -> bool:
    """Return whether a client that speaks V2 looks for an image that it did not find there, so far in vain.

    Only when it reads an image, or writes, does it use V1.
    """
    if _FALLING_BACK.match(request.user_agent.string) is None or request.method not in READS:
        return False
    return response.status_code >= HTTPStatus.BAD_REQUEST or "image" not in (request.view_args or {})


def _repository() -> str:
    """Return the repository of the URL, else of the V1 token; empty without either."""
    with suppress(NameInvalid):
        if text := (request.view_args or {}).get("repository"):
            return RepositoryName.parse(text.rstrip("/"))
        return token_repository() or ""
    return ""
