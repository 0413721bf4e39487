"""``/api/v1/me/keys`` and ``/api/v1/me/logins``: one's own API keys, refresh tokens and sessions."""

from flask import Blueprint, Response

from dualreg.catalog.rows import SecretRow
from dualreg.operations.own import (
    CreatedKey,
    OwnKey,
    OwnKeys,
    OwnLogin,
    OwnLogins,
    SecretId,
    WantedKey,
)
from dualreg.operations.values import encode
from dualreg.web import own
from dualreg.web.api.bodies import read_members, text
from dualreg.web.context import self_service
from dualreg.web.credentials import grant
from dualreg.web.guard import Need, requires
from dualreg.web.responses import empty_response, json_response


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/me/keys")(get_keys)
    blueprint.post("/me/keys")(post_key)
    blueprint.delete("/me/keys/<key>")(delete_key)
    blueprint.get("/me/logins")(get_logins)
    blueprint.delete("/me/logins")(delete_logins)
    blueprint.delete("/me/logins/<login>")(delete_login)


@requires(Need.ACCOUNT)
def get_keys() -> Response:
    """Return the keys, the oldest first, with when they expire and when they were last used."""
    return json_response(encode(OwnKeys([*map(_key, self_service().keys(grant().identity))])))


@requires(Need.ACCOUNT)
def post_key() -> Response:
    """Make a key, and return its text, which is not shown again."""
    members = read_members(WantedKey)
    note, scope = text(members, "note"), text(members, "scope")
    expires = text(members, "expires")
    secret, until = own.add_key(grant().identity, note=note, scope=scope, expires=expires)
    made = CreatedKey(SecretId(secret.id), note, scope or None, until, secret.text)
    return json_response(encode(made), status=201)


@requires(Need.ACCOUNT)
def delete_key(key: str) -> Response:
    """Revoke a key, and those that were made with it."""
    own.revoke_key(grant().identity, key)
    return empty_response(204, {})


@requires(Need.ACCOUNT)
def get_logins() -> Response:
    """Return the refresh tokens and sessions of browsers, the oldest first."""
    rows = self_service().lasting_logins(grant().identity)
    return json_response(encode(OwnLogins([*map(_login, rows)])))


@requires(Need.ACCOUNT)
def delete_login(login: str) -> Response:
    """Revoke a refresh token, or end a session of a browser."""
    own.end_login(grant().identity, login)
    return empty_response(204, {})


@requires(Need.ACCOUNT)
def delete_logins() -> Response:
    """Revoke all refresh tokens, and end all sessions of browsers."""
    own.end_logins(grant().identity)
    return empty_response(204, {})


def _login(row: SecretRow) -> OwnLogin:
    return OwnLogin(
        SecretId(row.id), row.kind, row.service or None, row.created_at, row.expires_at, row.used_at
    )


def _key(row: SecretRow) -> OwnKey:
    scope = row.limits or None
    return OwnKey(SecretId(row.id), row.note, scope, row.created_at, row.expires_at, row.used_at)
