"""Audit: write one line for each request that changed something or was denied."""

import logging
from http import HTTPStatus

from flask import Response

from dualreg.errors import TooManyRequests
from dualreg.networks import network_of
from dualreg.web.context import audit, registry
from dualreg.web.credentials import claimed_account
from dualreg.web.current import current_agent, current_facts, current_request
from dualreg.web.forwarded import client_address
from dualreg.web.identified import current_id
from dualreg.web.outages import LimitedLog
from dualreg.web.rates import Rates
from dualreg.web.responses import API_CHECKS, DENIALS, PROBES, READS

_DENIED = "denied"
#: Denials of one client that are recorded in a period, in seconds.
_DENIALS, _PERIOD = 600, 60.0
#: Characters of texts that clients choose; no account has a longer name.
_TEXT_LIMIT = 300
#: Characters of paths; none that anything has is longer.
_PATH_LIMIT = 1000


def require() -> None:
    """Check, before a request that may change something, that it can be recorded.

    Raises:
        AuditUnavailable: it cannot.
    """
    if current_request().method not in READS:
        audit().ready()


class Denials:
    """Limits how many denials of one client are recorded, which would else fill the disk."""

    def __init__(self) -> None:
        """Start before the first."""
        self._rates = Rates(_DENIALS, _PERIOD)
        self._log = LimitedLog(logging.getLogger(__name__).warning)

    def is_recorded(self, address: str) -> bool:
        """Return whether the next denial of the client is recorded; log that it is not."""
        try:
            self._rates.take(network_of(address))
        except TooManyRequests:
            limit = f"{_DENIALS} times in {_PERIOD:.0f} seconds"
            text = f"{address} was denied more than {limit}: the audit log has no line of further denials"
            self._log.line("denials", text)
            return False
        return True


def record(denials: Denials, response: Response) -> Response:
    """Write the audit line of the request, if it gets one; return *response* unchanged."""
    event = _event(response.status_code)
    if event and (event != _DENIED or denials.is_recorded(client_address())):
        asked, kept = current_request(), current_facts()
        repository, action = kept.get("requested", (None, None))
        audit().write(
            registry().now(),
            event,
            account=claimed_account()[:_TEXT_LIMIT],
            address=client_address(),
            method=asked.method,
            path=asked.path[:_PATH_LIMIT],
            repository=repository,
            action=action,
            status=response.status_code,
            request_id=current_id(),
            agent=current_agent()[:_TEXT_LIMIT],
            **kept.get("facts", {}),
        )
    return response


def _event(status: int) -> str | None:
    """Return ``write``, ``denied``, or None for a request that is not recorded."""
    asked, kept = current_request(), current_facts()
    if kept.get("refused"):
        return _DENIED  # with a status that does not say so
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return _DENIED if kept.get("locked_out") else None  # the server is busy, or the client too fast
    if status in DENIALS and (kept.get("allowed") or asked.blueprint == PROBES):
        return None  # another token may allow even more; or the request itself follows
    if status in DENIALS:
        challenged = asked.path in API_CHECKS and "Authorization" not in asked.headers
        return None if challenged else _DENIED
    writes = asked.method not in READS or kept.get("mounted")
    # What was changed before an error is recorded, too.
    written = writes and (status < HTTPStatus.BAD_REQUEST or "command" in kept.get("facts", {}))
    return "write" if written and asked.blueprint in ("v1", "v2", "api", "login", "ui") else None
