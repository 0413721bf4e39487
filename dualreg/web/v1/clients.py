"""Clients: record the sender of every V1 request, for ``dualreg clients``."""

from contextlib import suppress

from flask import Response, g, request

from dualreg.errors import NameInvalid
from dualreg.image.names import RepositoryName
from dualreg.web.context import registry
from dualreg.web.credentials import token_repository
from dualreg.web.forwarded import client_address
from dualreg.web.responses import DENIALS

#: Requests that current clients send too.
_IGNORED = ("/v1/_ping", "/v1/search")


def record_client(response: Response) -> Response:
    """Record the client, and whether the mode refused it (see ``mode``); return *response* unchanged."""
    path = request.path
    if path.split("/")[1] == "v1" and path.rstrip("/") not in _IGNORED:
        # Unauthorized clients must not fill the table with invented names.
        repository = "" if response.status_code in DENIALS else _repository()
        refused = "v1_refused" in g
        registry().clients.record(client_address(), request.user_agent.string, repository, refused=refused)
    return response


def _repository() -> str:
    """Return the repository of the URL, else of the V1 token; empty without either."""
    with suppress(NameInvalid):
        if text := (request.view_args or {}).get("repository"):
            return RepositoryName.parse(text.rstrip("/"))
        return token_repository() or ""
    return ""
