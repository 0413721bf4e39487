"""Accel: lets nginx answer reads of content that never changes, as ``nginx/immutable.conf`` does.

With each request, nginx looks whether the repository has a link file of the digest, and remembers two answers
of ours for a few seconds:

- ``/_pull`` says whether the sender of a request may pull from a repository;
- ``X-Accel-Expires``, in the answer with a blob or manifest, that it is the same for all who may.

nginx hands on whatever it cannot answer, refusals too, so there is one description of each.

Source: nginx, "ngx_http_auth_request_module", and ``proxy_ignore_headers`` for ``X-Accel-Expires``.
"""

import math
from datetime import datetime, timedelta

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.errors import RegistryError
from dualreg.image.names import RepositoryName
from dualreg.web.context import rates, registry, settings
from dualreg.web.credentials import grant
from dualreg.web.guard import authorize
from dualreg.web.responses import PROBES, empty_response

#: For how long nginx remembers an answer at most.
MEMORY = timedelta(seconds=5)
#: nginx still uses an answer in the second in which it expires.
_ROUNDING = 1


def create_blueprint() -> Blueprint:
    """Return ``/_pull``, which nginx asks before it answers anything."""
    blueprint = Blueprint(PROBES, __name__)
    blueprint.get("/_pull")(get_pull)
    blueprint.register_error_handler(RegistryError, lambda _: empty_response(403, {}))
    return blueprint


def get_pull() -> Response:
    """Return 204 if the sender may pull from ``?repository=``, and until when nginx may remember that.

    Passwords are never checked: nginx hands on requests with one, and all those to repositories whose images
    must be signed. All other answers are an empty 403, and have no line in the audit log, since the request
    itself follows.
    """
    scheme = request.headers.get("Authorization", "").partition(" ")[0].lower()
    if not _is_answered_by_nginx() or scheme not in ("", "bearer"):
        return empty_response(403, {})
    repository = RepositoryName.parse(request.args.get("repository", ""))
    if registry().signatures.covers_pulls(repository):
        return empty_response(403, {})
    authorize(repository, Action.PULL)
    left = (grant().identity.until or math.inf) - registry().now().timestamp()
    seconds = math.floor(min(left, MEMORY.seconds)) - _ROUNDING
    return empty_response(204, {"X-Accel-Expires": f"{max(seconds, 0)}"})


def let_remember(response: Response, until: datetime | None) -> datetime | None:
    """Let nginx give the response to a read again, if it may; return until when nginx may be given it.

    What is in use can be answered again: once it is not, it stays for the grace, and nginx sees when the link
    file is gone. A promise that content stays (``State.promise``) is answered again while it holds.

    Args:
        until: When the answer may change without a change of the catalog; None: never.
    """
    before = until and until - MEMORY
    holds = before is None or before > registry().now()
    if not holds or settings().gc_grace < 2 * MEMORY or not settings().x_accel_prefix:
        return until
    response.headers["X-Accel-Expires"] = f"{MEMORY.seconds - _ROUNDING}"
    return before


def _is_answered_by_nginx() -> bool:
    """Return whether nginx may answer at all: each request is to be counted, or has an answer of its own."""
    return bool(settings().x_accel_prefix) and not rates().are_limited and not settings().cors_origins
