"""Credentials: authenticate the request and return what it is granted.

Source: RFC 7617 (Basic), RFC 6750 (Bearer); docker-registry 0.9, ``toolkit.py``, for V1's ``Token``, which
some clients send twice (``Token Token signature=…``).
"""

import base64
import hashlib
import re
from collections.abc import Callable
from contextlib import suppress

from flask import g, request

from dualreg.auth.access import Grant
from dualreg.auth.authority import Session
from dualreg.errors import TooManyAttempts, Unauthenticated
from dualreg.image.names import RepositoryName
from dualreg.patterns import Reach
from dualreg.web.context import authority, key_uses, rates
from dualreg.web.current import current_facts, current_request
from dualreg.web.forwarded import client_address
from dualreg.web.rates import client_of
from dualreg.web.responses import API_CHECKS

#: Carries the V1 session of clients that send Basic credentials with every request.
SESSION_COOKIE = "dualreg_v1"
#: Methods of requests that most clients do not repeat: they have sent a body, and would begin again.
_UNREPEATED = ("PATCH", "PUT")
_SIGNATURE = re.compile(r"Token .*?\bsignature=\"?([A-Za-z0-9_.-]+)", re.ASCII | re.IGNORECASE)


def grant() -> Grant:
    """Return what the request is granted; computed once per request.

    Raises:
        Unauthenticated: the credentials are wrong or of an unknown scheme; such a request is never anonymous.
        TooManyAttempts, TooManyRequests, ServerBusy.
    """
    kept = current_facts()
    if "grant" not in kept:
        kept.grant = counted(_authenticate)
    return kept.grant  # type: ignore[no-any-return]  # flask.g is untyped


def counted(authenticate: Callable[[], Grant]) -> Grant:
    """Return what *authenticate* does, and count the request for its client.

    One whose credentials are wrong counts for its address. The check for the API does not count: load
    balancers and all clients send it, and its answer costs no more than a refusal.
    For the logs, ``g.locked_out`` says that too many logins have failed, and ``g.account`` who has asked.

    Raises:
        TooManyRequests: the client has sent too many. Also what *authenticate* raises.
    """
    try:
        granted = authenticate()
    except (Unauthenticated, TooManyAttempts) as error:
        count_request()
        g.locked_out = isinstance(error, TooManyAttempts)
        raise
    current_facts().account = account = granted.identity.account
    count_request(account)
    if granted.identity.key and (uses := key_uses()):
        uses.record(granted.identity.key)
    return granted


def client_key() -> str:
    """Return whom the request counts for where clients are limited: a hash of its account, or its network.

    Raises:
        Unauthenticated, TooManyAttempts, TooManyRequests: see ``grant``.
    """
    client = client_of(grant().identity.account, client_address())
    return hashlib.sha256(client.encode()).hexdigest()


def v1_session() -> Session | None:
    """Return the V1 session of the request; None if it has none.

    Raises:
        Unauthenticated, TooManyAttempts, TooManyRequests: see ``grant``.
    """
    granted = grant()
    if "session" not in g:
        g.session = _session_of_cookie(granted.identity.account)
    return g.session  # type: ignore[no-any-return]  # flask.g is untyped


def token_repository() -> RepositoryName | None:
    """Return the repository of the request's V1 token, for statistics; passwords are not checked."""
    if "session" not in g and request.headers.get("Authorization", "").lower().startswith("token "):
        with suppress(Unauthenticated):
            _begin_session()
    return known_repository()


def known_repository() -> RepositoryName | None:
    """Return the repository of the request's V1 session, if that was asked for before and there is one."""
    session: Session | None = g.get("session")
    return session.repository if session else None


def claim_account(account: str) -> None:
    """Record the account that the request names, verified or not, for the audit log."""
    g.claimed_account = account


def listable() -> Reach:
    """Return the repositories that lists show to the client.

    Raises:
        Unauthenticated, TooManyAttempts, TooManyRequests: see ``grant``.
    """
    return authority().listable(grant())


def searchable() -> Reach:
    """Return the repositories that a search shows to the client.

    Docker 1.11 sends its user's name without a password, if it has logged in with a token; that is anonymous
    here, where it proves nothing.

    Raises:
        Unauthenticated, TooManyAttempts, TooManyRequests: see ``grant``.
    """
    scheme, value = _credentials()
    if scheme == "basic" and _decode(value)[1] == "":
        return authority().listable(counted(_anonymous))
    return listable()


def claimed_account() -> str:
    """Return the account that the request names, verified or not; empty if it names none."""
    kept = current_facts()
    proved = kept.grant.identity.account if "grant" in kept else ""
    return str(proved or kept.get("claimed_account", ""))


def _authenticate() -> Grant:
    scheme, value = _credentials()
    if scheme == "token" and request.blueprint == "v1":
        return _begin_session().grant
    if not scheme or authority().is_open:
        return _anonymous()
    if scheme == "bearer":
        return authority().by_token(value.strip())
    if scheme == "basic":
        account, password = _decode(value)
        claim_account(account)
        return authority().by_password(account, password, client_address())
    raise Unauthenticated(reason="unsupported authentication scheme")


def count_request(account: str = "") -> None:
    """Count the request for its client, unless it only checks for the API.

    Raises:
        TooManyRequests: the client has sent too many.
    """
    if rates().are_limited and request.path not in API_CHECKS:
        rates().take(client_of(account, client_address()), periods=_periods())


def _anonymous() -> Grant:
    """Return what clients without credentials may do, unless this one has sent too many requests.

    Rules are rows: those who are refused in any case are refused before these are looked up.

    Raises:
        TooManyRequests.
    """
    if rates().are_limited and request.path not in API_CHECKS:
        rates().check(client_of("", client_address()), periods=_periods())
    return authority().anonymous()


def _periods() -> int:
    """Return by how many periods the client may be ahead of its rate with this request."""
    return 2 if request.method in _UNREPEATED else 1


def _credentials() -> tuple[str, str]:
    """Return the scheme of the request's credentials, in lower case, and the rest; empty without any."""
    sent: str = current_request().environ.get("HTTP_AUTHORIZATION", "")
    scheme, _, value = sent.partition(" ")
    return scheme.lower(), value


def _signature(header: str) -> str:
    match = _SIGNATURE.match(header)
    if match is None:
        raise Unauthenticated(reason="the token has no signature")
    return match[1]


def _decode(value: str) -> tuple[str, str]:
    """Return the account and password of Basic credentials."""
    try:
        account, colon, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except ValueError as error:  # not base64, not ASCII, or not UTF-8
        raise Unauthenticated(reason="malformed credentials") from error
    if not colon:
        raise Unauthenticated(reason="malformed credentials")
    return account, password


def _begin_session() -> Session:
    """Keep the V1 session of the request's token, and return it.

    Raises:
        Unauthenticated: the token is invalid or expired.
    """
    session = authority().by_session(_signature(request.headers["Authorization"]))
    g.session = session
    return session


def _session_of_cookie(account: str) -> Session | None:
    """Return the session of the cookie, if that was issued to *account*.

    The cookie grants nothing: the request's own credentials do.
    """
    token = request.cookies.get(SESSION_COOKIE, "")
    if not token:
        return None
    try:
        session = authority().by_session(token)
    except Unauthenticated:
        return None
    return session if session.grant.identity.account == account else None
