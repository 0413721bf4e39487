"""Devices: terminals without a browser log in by one that is elsewhere, and get an API key.

They ask the registry, which asks the issuer: so they need neither its address nor a secret.

Source: RFC 8628; RFC 6749, section 5.2, for errors.
"""

from collections.abc import Mapping
from http import HTTPStatus

from flask import Blueprint, Response, g, request

from dualreg.auth.access import Identity
from dualreg.auth.login_issuer import Pending
from dualreg.errors import RegistryError, RequestInvalid
from dualreg.networks import network_of
from dualreg.web.browser import form, require_secure
from dualreg.web.context import audit, self_service
from dualreg.web.forwarded import client_address
from dualreg.web.login.services import devices, logins, record_login
from dualreg.web.own import lifetime_of
from dualreg.web.responses import json_response, retry_header
from dualreg.web.v2.errors import V2_ERRORS

_NOTE = "dualreg login"
#: What a terminal is told of the answer to its first request.
_TOLD = (
    "device_code",
    "user_code",
    "verification_uri",
    "verification_uri_complete",
    "expires_in",
    "interval",
)


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.post("/device")(post_device)
    blueprint.post("/device/key")(post_device_key)


def is_asked() -> bool:
    """Return whether a terminal sent the request."""
    return request.path.startswith("/login/device")


def post_device() -> Response:
    """Return the code that somebody has to enter in a browser, and where.

    Raises:
        TooManyRequests: devices of the client's network have begun too many logins within a minute.
    """
    require_secure()
    issuer = _issuer(form())
    devices().take(network_of(client_address()))
    found = logins().begin_device(issuer)
    return json_response({"issuer": issuer, **{name: found[name] for name in _TOLD if name in found}})


def post_device_key() -> Response:
    """Return a key once somebody has entered the code; until then, that it is pending."""
    require_secure()
    given = form()
    issuer, lifetime = _issuer(given), lifetime_of(given.get("expires", ""))
    audit().ready()
    found = logins().poll_device(issuer, given.get("device_code", ""), client_address())
    if isinstance(found, Pending):
        return json_response({"error": "slow_down" if found.slower else "authorization_pending"}, status=400)
    record_login(found, issuer)
    note = given.get("note", _NOTE)
    made, _ = self_service().add_key(Identity(found), limits="", note=note, lifetime=lifetime)
    g.facts = {"key": made.id}
    return json_response({"account": found, "key": made.id, "secret": made.text})


def render(error: RegistryError) -> Response:
    """Return an error in the form of RFC 6749."""
    status = V2_ERRORS[type(error)].status
    code = "access_denied" if status == HTTPStatus.FORBIDDEN else "invalid_request"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        code = "temporarily_unavailable"
    document = {"error": code, "error_description": str(error)}
    return json_response(document, status=status, headers=retry_header(error))


def _issuer(given: Mapping[str, str]) -> str:
    """Return the issuer that the request names, or the only one.

    Raises:
        RequestInvalid: it names none, and there are several.
    """
    known = sorted(logins().ways)
    if "issuer" not in given and len(known) > 1:
        raise RequestInvalid(reason=f"name the issuer, one of {', '.join(known)}")
    return given.get("issuer", known[0])
