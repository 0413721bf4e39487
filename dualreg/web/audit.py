"""Trail: what of a request goes into the audit log."""

from http import HTTPStatus

from flask import Response, g, request

from dualreg.web.context import audit, registry
from dualreg.web.credentials import claimed_account
from dualreg.web.forwarded import client_address
from dualreg.web.responses import DENIALS, READS

#: Where a client that says nothing is told how to log in, which is no denial.
_GREETINGS = ("/v2", "/v2/")
_AGENT_LIMIT = 200


def record(response: Response) -> Response:
    """Record a write that was done, or a request that was denied; the answer stays as it is."""
    event = _event(response.status_code)
    if event:
        repository, action = g.get("demanded", (None, None))
        audit().write(
            registry().state.catalog.now(),
            event,
            account=claimed_account(),
            address=client_address(),
            method=request.method,
            path=request.path,
            repository=repository,
            action=action,
            status=response.status_code,
            agent=request.user_agent.string[:_AGENT_LIMIT],
        )
    return response


def _event(status: int) -> str | None:
    if status == HTTPStatus.TOO_MANY_REQUESTS and "allowed" in g:
        return None  # who may, but not now
    if status in DENIALS:
        greeted = request.path in _GREETINGS and "Authorization" not in request.headers
        return None if greeted else "denied"
    written = request.method not in READS and status < HTTPStatus.BAD_REQUEST
    return "write" if written and request.blueprint in ("v1", "v2") else None
