"""Audit: write one line for each request that changed something or was denied."""

from http import HTTPStatus

from flask import Response, g, request

from dualreg.web.context import audit, registry
from dualreg.web.credentials import claimed_account
from dualreg.web.forwarded import client_address
from dualreg.web.responses import API_CHECKS, DENIALS, READS

#: Characters of texts that clients choose; no account has a longer name.
_TEXT_LIMIT = 300


def require() -> None:
    """Check, before a request that may change something, that it can be recorded.

    Raises:
        AuditUnavailable: it cannot.
    """
    if request.method not in READS:
        audit().ready()


def record(response: Response) -> Response:
    """Write the audit line of the request, if it gets one; return *response* unchanged."""
    event = _event(response.status_code)
    if event:
        repository, action = g.get("requested", (None, None))
        audit().write(
            registry().now(),
            event,
            account=claimed_account()[:_TEXT_LIMIT],
            address=client_address(),
            method=request.method,
            path=request.path,
            repository=repository,
            action=action,
            status=response.status_code,
            agent=request.user_agent.string[:_TEXT_LIMIT],
        )
    return response


def _event(status: int) -> str | None:
    """Return ``write``, ``denied``, or None for a request that is not recorded."""
    if status in DENIALS and (g.get("allowed") or "beyond_rate" in g):
        return None  # the server is busy, the client is to slow down, or another token may allow even more
    if status in DENIALS:
        challenged = request.path in API_CHECKS and "Authorization" not in request.headers
        return None if challenged else "denied"
    written = request.method not in READS and status < HTTPStatus.BAD_REQUEST
    return "write" if written and request.blueprint in ("v1", "v2") else None
