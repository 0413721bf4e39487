"""Token exchange: ``POST /token`` with the token of another issuer, such as a CI system, for one of ours.

Source: RFC 8693 (OAuth 2.0 Token Exchange); RFC 6749, section 5.2, for errors.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import urlsplit

from flask import Response, g

from dualreg.auth.access import Access, Grant, parse_scopes
from dualreg.errors import RequestInvalid, Unauthenticated
from dualreg.web.address import own_host
from dualreg.web.context import authority, settings
from dualreg.web.credentials import claim_account, counted
from dualreg.web.responses import json_response

#: The grant type that asks for it.
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
_TYPE = "urn:ietf:params:oauth:token-type:"
#: What tokens of an OpenID Connect issuer may be called. The issuer's signature says what they are.
_SUBJECTS = (f"{_TYPE}jwt", f"{_TYPE}id_token", f"{_TYPE}access_token")
#: What a token of ours is.
_ISSUED = (f"{_TYPE}access_token", f"{_TYPE}jwt")
#: Parameters that may be repeated.
_LISTS = ("audience", "resource")


class ExchangeRefused(Exception):
    """No token is issued.

    Attributes:
        code: That of RFC 6749 or RFC 8693.
        reason: What is wrong, for who reads the log of the job.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def exchanged(fields: Sequence[tuple[str, str]]) -> tuple[Grant, Sequence[Access], Mapping[str, str]]:
    """Return what the job of a subject token may do, the access that it wants, and what the answer adds.

    Args:
        fields: Those of the form, in which a parameter without a value counts as missing.

    Raises:
        ExchangeRefused: the request is invalid, or its token is.
        TooManyRequests: the client has sent too many.
    """
    form = _single(fields)
    issued = form.get("requested_token_type", _ISSUED[0])
    _require(form, issued)
    _require_own(fields)
    wanted = _wanted(form.get("scope", ""))
    granted = _granted(form["subject_token"])
    return granted, wanted, {"issued_token_type": issued, "token_type": "Bearer"}


def render(refused: ExchangeRefused) -> Response:
    """Return the response to a refusal."""
    document = {"error": refused.code, "error_description": refused.reason}
    return json_response(document, status=400, headers={"Cache-Control": "no-store"})


def _single(fields: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the parameters by name.  Source: RFC 6749, section 3.2, for those that are repeated."""
    names = Counter(name for name, _ in fields if name not in _LISTS)
    if repeated := sorted(name for name, count in names.items() if count > 1):
        raise ExchangeRefused("invalid_request", f"{repeated[0]} is given more than once")
    return dict(fields)


def _require(form: Mapping[str, str], issued: str) -> None:
    """Raise ExchangeRefused unless the form is that of an exchange that can be done."""
    for name in ("subject_token", "subject_token_type"):
        if name not in form:
            raise ExchangeRefused("invalid_request", f"{name} is missing")
    if "actor_token" in form or "actor_token_type" in form:
        raise ExchangeRefused("invalid_request", "actor_token is not supported")
    if form["subject_token_type"] not in _SUBJECTS:
        raise ExchangeRefused("invalid_request", f"subject_token_type must be one of {', '.join(_SUBJECTS)}")
    if issued not in _ISSUED:
        raise ExchangeRefused("invalid_request", f"requested_token_type must be one of {', '.join(_ISSUED)}")


def _require_own(fields: Sequence[tuple[str, str]]) -> None:
    """Raise ExchangeRefused unless the token is for this registry: by its service name, or by its URL."""
    for name, value in fields:
        if name in ("audience", "service") and value != settings().token_service:
            known = f"this registry is {settings().token_service}"
            raise ExchangeRefused("invalid_target", f"{name} is not known; {known}")
        if name == "resource" and not _is_own(value):
            raise ExchangeRefused("invalid_target", f"resource is not a URL of this registry, {own_host()}")


def _is_own(resource: str) -> bool:
    """Return whether a resource is a URL of this registry.  Source: RFC 8707, section 2."""
    try:
        parts = urlsplit(resource)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc == own_host() and not parts.fragment


def _wanted(scope: str) -> Sequence[Access]:
    try:
        return parse_scopes([scope])
    except RequestInvalid as error:
        raise ExchangeRefused("invalid_scope", str(error)) from error


def _granted(token: str) -> Grant:
    """Return what the job of a subject token may do. A token that is refused is a denial in the audit log."""
    try:
        granted = counted(partial(authority().by_workload, token))
    except Unauthenticated as error:
        g.refused = True
        raise ExchangeRefused("invalid_request", f"the subject_token is refused: {error.reason}") from error
    claim_account(granted.identity.account)
    return granted
