"""``/token``: issue the bearer tokens of the V2 API.

Source: Docker Registry, "Token Authentication Specification" (GET) and "Oauth2 Token Authentication" (POST);
RFC 8693 for the exchange of other issuers' tokens.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from urllib.parse import parse_qsl

from flask import Blueprint, Response, request

from dualreg.auth.access import Access, Grant, parse_scopes
from dualreg.errors import RegistryError, RequestInvalid, Unauthenticated
from dualreg.web import exchange
from dualreg.web.body import read_limited
from dualreg.web.context import audit, authority, registry, settings
from dualreg.web.credentials import claim_account, counted, grant
from dualreg.web.forwarded import client_address
from dualreg.web.identified import current_id
from dualreg.web.responses import json_response
from dualreg.web.v2 import errors

_BODY_LIMIT = 64 << 10


def create_blueprint() -> Blueprint:
    """Return ``/token``."""
    blueprint = Blueprint("token", __name__)
    blueprint.get("/token")(get_token)
    blueprint.post("/token")(post_token)
    blueprint.register_error_handler(RegistryError, render)
    return blueprint


def get_token() -> Response:
    """Return a token for the owner of the Basic credentials; without credentials, an anonymous one.

    It covers what the account is granted of the requested scopes, which may be nothing.
    """
    _check_service(request.args.get("service"))
    granted = _require_login(grant())
    document = _token_document(granted, parse_scopes(request.args.getlist("scope")))
    if request.args.get("offline_token") == "true":
        document |= _refresh_token(granted)
    return _uncached(document)


def post_token() -> Response:
    """Return a token for a password, a refresh token or another issuer's token, as OAuth 2 defines it."""
    fields = parse_qsl(read_limited(_BODY_LIMIT).decode("utf-8", "replace"))
    form = dict(fields)
    if form.get("grant_type") == exchange.GRANT_TYPE:
        return _exchange(fields)
    for name in ("grant_type", "service", "client_id"):
        if name not in form:
            raise RequestInvalid(reason=f"{name} is missing")
    _check_service(form["service"])
    granted = _require_login(counted(partial(_grant_of_form, form)))
    document = _token_document(granted, parse_scopes([form.get("scope", "")]))
    if form["grant_type"] == "refresh_token":
        document["refresh_token"] = form.get("refresh_token", "")
    elif form.get("access_type") == "offline":
        document |= _refresh_token(granted)
    return _uncached(document)


def _exchange(fields: Sequence[tuple[str, str]]) -> Response:
    """Return a token of ours for one of the OpenID Connect issuer."""
    try:
        granted, wanted, more = exchange.exchanged(fields)
    except exchange.ExchangeRefused as refused:
        return exchange.render(refused)
    return _uncached({**_token_document(granted, wanted), **more})


def render(error: RegistryError) -> Response:
    """Return the V2 response to the error; the challenge is Basic."""
    response = errors.render(error)
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = f'Basic realm="{settings().token_service}"'
    return response


def _grant_of_form(form: Mapping[str, str]) -> Grant:
    if form["grant_type"] == "refresh_token":
        return authority().by_refresh(form.get("refresh_token", ""), form["service"])
    if form["grant_type"] != "password":
        raise RequestInvalid(reason="grant_type must be password, refresh_token or that of a token exchange")
    account, password = form.get("username", ""), form.get("password", "")
    if not account or not password:
        raise RequestInvalid(reason="username or password is missing")
    claim_account(account)
    return authority().by_password(account, password, client_address())


def _check_service(service: str | None) -> None:
    """Raise RequestInvalid if the token is requested for another service."""
    if service not in (None, "", settings().token_service):
        raise RequestInvalid(reason="unknown service", service=service[:200])


def _require_login(granted: Grant) -> Grant:
    """Return the grant, unless it comes from a bearer token, which must not be renewable."""
    if granted.bearer:
        raise Unauthenticated(reason="a bearer token cannot be exchanged for a token")
    return granted


def _token_document(granted: Grant, wanted: Iterable[Access]) -> dict[str, object]:
    issued = authority().access_token(granted, wanted)
    return {
        "token": issued.text,
        "access_token": issued.text,
        "expires_in": int(issued.lifetime.total_seconds()),
        "issued_at": registry().now().isoformat(timespec="seconds").replace("+00:00", "Z"),
        "scope": " ".join(map(str, issued.accesses)),
    }


def _refresh_token(granted: Grant) -> dict[str, object]:
    """Return a refresh token for a grant by password; nothing for one by access key or token.

    Nor by a follower: its accounts are those of another registry, and replaced whenever they change there.
    """
    logins = authority().logins
    if logins is None or settings().follow or not granted.identity.password:
        return {}
    account = granted.identity.account
    audit().ready()
    audit().write(
        registry().now(),
        "refresh-token",
        account=account,
        address=client_address(),
        path=request.path,
        request_id=current_id(),
    )
    return {"refresh_token": logins.make_refresh(account, settings().token_service)}


def _uncached(document: dict[str, object]) -> Response:
    return json_response(document, headers={"Cache-Control": "no-store"})
