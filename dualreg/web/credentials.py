"""Credentials: what a request says of its sender, and what that lets it do.

Source: RFC 7617 (Basic), RFC 6750 (Bearer); docker-registry 0.9, ``toolkit.py``, for V1's ``Token``, which
some clients send with the word there twice.
"""

import base64
import binascii
import re
from contextlib import suppress

from flask import g, request

from dualreg.auth.access import Action, Grant
from dualreg.errors import Unauthenticated
from dualreg.image.names import RepositoryName
from dualreg.image.reach import Reach
from dualreg.web.context import authority
from dualreg.web.forwarded import client_address

#: What carries a V1 session for clients that say Basic everywhere.
SESSION_COOKIE = "dualreg_v1"
_SIGNATURE = re.compile(r"Token .*?\bsignature=\"?([A-Za-z0-9_.-]+)", re.ASCII | re.IGNORECASE)


def grant() -> Grant:
    """Return what the request's sender may do; found out once.

    Raises:
        Unauthenticated: the credentials are wrong, or of no known sort: that never makes somebody anonymous.
        TooManyAttempts.
    """
    if "grant" not in g:
        g.grant = _read()
    return g.grant  # type: ignore[no-any-return]  # flask's g is untyped


def session() -> RepositoryName | None:
    """Return the repository of the request's V1 session; None if it is in none.

    Raises:
        Unauthenticated, TooManyAttempts: as ``grant``.
    """
    granted = grant()
    if "session" not in g:
        g.session = _session_of_cookie(granted.identity.account)
    return g.session  # type: ignore[no-any-return]  # flask's g is untyped


def begun_session() -> RepositoryName | None:
    """Return the repository of the request's V1 token, for notes about it: no password is looked at."""
    if "session" not in g and request.headers.get("Authorization", "").lower().startswith("token "):
        with suppress(Unauthenticated):
            g.session, _ = authority().by_session(_signature(request.headers["Authorization"]))
    return g.get("session")  # type: ignore[no-any-return]  # flask's g is untyped


def claim(account: str) -> None:
    """Remember who the request says it is from, for the audit log."""
    g.claimed_account = account


def listed() -> Reach:
    """Return the repositories that the request's sender is shown in lists.

    Raises:
        Unauthenticated, TooManyAttempts: as ``grant``.
    """
    return authority().listing(grant()).reach(Action.PULL)


def claimed_account() -> str:
    """Return the account that the request says it is from, whether that is true or not."""
    if "grant" in g:
        return str(g.grant.identity.account)
    return str(g.get("claimed_account", ""))


def _read() -> Grant:
    header = request.headers.get("Authorization", "")
    scheme, _, value = header.partition(" ")
    scheme = scheme.lower()
    if scheme == "token" and request.blueprint == "v1":
        g.session, granted = authority().by_session(_signature(header))
        return granted
    if not scheme or authority().is_open:
        return authority().anonymous()
    if scheme == "bearer":
        return authority().by_token(value.strip())
    if scheme == "basic":
        account, password = _decode(value)
        claim(account)
        return authority().by_password(account, password, client_address())
    raise Unauthenticated(reason="unknown sort of credentials")


def _signature(header: str) -> str:
    match = _SIGNATURE.match(header)
    if match is None:
        raise Unauthenticated(reason="a token without signature")
    return match[1]


def _decode(value: str) -> tuple[str, str]:
    """Return the account and password of Basic credentials."""
    try:
        account, colon, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Unauthenticated(reason="malformed credentials") from error
    if not colon:
        raise Unauthenticated(reason="malformed credentials")
    return account, password


def _session_of_cookie(account: str) -> RepositoryName | None:
    """Return the repository that the same account began a session on; what it may do there, it says anew."""
    token = request.cookies.get(SESSION_COOKIE, "")
    if not token:
        return None
    try:
        repository, granted = authority().by_session(token)
    except Unauthenticated:
        return None
    return repository if granted.identity.account == account else None
