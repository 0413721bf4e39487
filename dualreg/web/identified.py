"""Identified: each request has an id, by which the client, a proxy, and the logs mean the same request.

It is the one that the client or a proxy sent, or else a new one, and always answered. What the log says of a
request is kept in its WSGI environment, wherever it is answered.
"""

import random
import re
from collections.abc import Mapping
from typing import Any

from flask import Response

from dualreg.logs.lines import bind_request
from dualreg.web.current import current_facts, current_request
from dualreg.web.forwarded import ADDRESS, address_of

#: The header of requests and responses.
HEADER = "X-Request-Id"
#: Keys of the environment: the id, the account that has proved who it is, the repository, and the id of the
#: trace, if there is one.
ID, ACCOUNT, REPOSITORY = "dualreg.id", "dualreg.account", "dualreg.repository"
TRACE = "dualreg.trace"
_SENT = "HTTP_X_REQUEST_ID"
#: An id that is taken over: no separators, which would end it in a log; nor is it a JSON Web Token.
_VALID = re.compile(r"(?!eyJ)[A-Za-z0-9_.=@+-]{1,128}")
#: Bits of new ids; nginx's have as many.
_SIZE = 128

Environ = dict[str, Any]


def identify(environ: Environ, trusted_proxies: str) -> str:
    """Return the id of a request, and keep it and the client's address in its environment.

    Args:
        trusted_proxies: The setting.
    """
    sent = environ.get(_SENT)
    environ[ID] = request_id = sent if sent and _VALID.fullmatch(sent) else _new()
    environ[ADDRESS] = address_of(environ, trusted_proxies)
    return request_id


def answering(environ: Environ, start_response: Any, trusted_proxies: str) -> Any:  # noqa: ANN401 -- WSGI
    """Identify a request that this thread answers; return *start_response*, with the id in each response."""
    request_id = identify(environ, trusted_proxies)
    bind_request(request_id)

    def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:  # noqa: ANN401 -- WSGI
        return start_response(status, [*headers, (HEADER, request_id)], *more)

    return start


def keep_facts(environ: Environ, account: str, repository: object) -> None:
    """Keep who has asked, as far as that is proved, and for which repository; None: for none."""
    environ[ACCOUNT] = account
    environ[REPOSITORY] = "" if repository is None else str(repository)


def record_facts(response: Response) -> Response:
    """Keep the same of the current request; return *response* unchanged."""
    kept = current_facts()
    keep_facts(current_request().environ, kept.get("account", ""), kept.get("requested", (None, None))[0])
    return response


def _new() -> str:
    """Return an id that no other request has; it is no secret."""
    return f"{random.getrandbits(_SIZE):032x}"


def current_id() -> str:
    """Return the id of the current request."""
    return str(current_request().environ.get(ID, ""))


def facts(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return what the log says of a request beside what it sent: the members of ``logs.requests.Request``."""
    members = (
        ("id", ID), ("address", ADDRESS), ("account", ACCOUNT), ("repository", REPOSITORY),
        ("trace", TRACE),
    )  # fmt: skip
    return {member: environ.get(key, "") for member, key in members}
