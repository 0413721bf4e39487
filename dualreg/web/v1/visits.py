"""Visits: every V1 request that says something of its client is noted, for ``dualreg clients``."""

from contextlib import suppress

from flask import Response, g, request

from dualreg.errors import NameInvalid
from dualreg.image.names import RepositoryName
from dualreg.web.context import registry
from dualreg.web.credentials import begun_session
from dualreg.web.forwarded import client_address
from dualreg.web.responses import DENIALS

#: Today's clients ask these too.
_UNTOLD = ("/v1/_ping", "/v1/search")


def note_visit(response: Response) -> Response:
    """Note who came, and whether the mode refused it (``modes``); the answer stays as it is."""
    path = request.path
    if path.split("/")[1] == "v1" and path.rstrip("/") not in _UNTOLD:
        # Names that somebody made up, who may do nothing, would fill the table.
        repository = "" if response.status_code in DENIALS else _repository()
        refused = "v1_refused" in g
        registry().clients.note(client_address(), request.user_agent.string, repository, refused=refused)
    return response


def _repository() -> str:
    """Return the repository that the request is about: as its URL says, else its token; else nothing."""
    with suppress(NameInvalid):
        if text := (request.view_args or {}).get("repository"):
            return RepositoryName.parse(text.rstrip("/"))
        return begun_session() or ""
    return ""
