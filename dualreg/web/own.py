"""One's own account: what people change of it by the API and by pages, and what the logs say of that."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from flask import g

from dualreg.auth.access import Identity
from dualreg.auth.secrets import Secret
from dualreg.errors import RequestInvalid, TooManyAttempts
from dualreg.settings import parse_duration
from dualreg.web.context import self_service
from dualreg.web.forwarded import client_address


def change_password(identity: Identity, old: str, new: str) -> None:
    """Change the password. Logins with the old one end: refresh tokens and sessions now, tokens in a minute.

    Raises:
        NotAllowed, RequestInvalid, TooManyAttempts, ServerBusy: see ``SelfService.change_password``.
    """
    try:
        self_service().change_password(identity, old, new, client_address())
    except TooManyAttempts:
        g.locked_out = True
        raise


def add_key(identity: Identity, *, note: str, scope: str, expires: str) -> tuple[Secret, datetime | None]:
    """Return a new API key, and when it expires.

    Args:
        expires: A duration such as ``90d``; empty: not by itself.

    Raises:
        RequestInvalid, NotAllowed: see ``SelfService.add_key``.
    """
    made, until = self_service().add_key(identity, limits=scope, note=note, lifetime=lifetime_of(expires))
    g.facts = {"key": made.id}
    return made, until


def add_typed_key(identity: Identity, given: Mapping[str, str]) -> tuple[Secret, datetime | None]:
    """Return the API key that a form asks for by ``note``, ``scope`` and ``expires``, and when it expires.

    Raises:
        RequestInvalid, NotAllowed: see ``SelfService.add_key``.
    """
    note, scope = (given.get(name, "").strip() for name in ("note", "scope"))
    return add_key(identity, note=note, scope=scope, expires=given.get("expires", ""))


def revoke_key(identity: Identity, key: str) -> None:
    """Revoke an API key, and those that were made with it.

    Raises:
        KeyUnknown: see ``SelfService.revoke_key``.
    """
    self_service().revoke_key(identity, key)
    g.facts = {"key": key}


def end_login(identity: Identity, login: str) -> None:
    """Revoke a refresh token, or end a session of a browser.

    Raises:
        LoginUnknown: see ``SelfService.revoke_login``.
    """
    row = self_service().revoke_login(identity, login)
    g.facts = {"kind": row.kind, "id": login}


def end_logins(identity: Identity, *, keep: str = "") -> None:
    """End all logins but the session with the id *keep*: refresh tokens and sessions now, tokens in a minute.

    Raises:
        NotAllowed: see ``SelfService.revoke_logins``.
    """
    self_service().revoke_logins(identity, keep=keep)
    g.facts = {"kept": keep} if keep else {}


def lifetime_of(text: str) -> timedelta | None:
    """Return a duration such as ``90d``; None, if there is no text: as long as possible.

    Raises:
        RequestInvalid: it is none.
    """
    try:
        return parse_duration(text) if text else None
    except ValueError as error:
        raise RequestInvalid(reason=f"expires: {error}") from error
