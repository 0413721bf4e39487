"""Browser: the cookies, the session and the forms of pages for people, those of ``/login`` and ``/ui``.

Source: RFC 6265bis, sections 4.1.2.7 (SameSite) and 4.1.3 (prefixes); Fetch Metadata, ``Sec-Fetch-Site``.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from flask import Response, g, request

from dualreg.auth.access import Identity
from dualreg.auth.sessions import Sessions, session_id
from dualreg.errors import LoginRefused
from dualreg.web.address import is_secure, own_origin, own_url
from dualreg.web.body import read_limited
from dualreg.web.context import authority, key_uses
from dualreg.web.credentials import claim_account
from dualreg.web.responses import empty_response

#: Names of cookies: of the session, and of forms that are shown before there is one.
SESSION, FORM = "dualreg_session", "dualreg_form"
#: Over https, names have a prefix that keeps other hosts of the domain from setting the cookies.
_PREFIX = "__Host-"
_BODY_LIMIT = 16 << 10
#: Where a request may come from, as browsers say it; older ones say nothing.
_OWN_SITES = ("", "same-origin")


def require_secure() -> None:
    """Check that cookies, passwords and keys cannot be read on their way.

    Raises:
        LoginRefused: they can.
    """
    if not is_secure() and urlsplit(own_url()).hostname not in ("localhost", "127.0.0.1", "::1"):
        reason = "logins need https; if a proxy provides it, the operator has to set public_url"
        raise LoginRefused(reason=reason)


def set_cookie(
    response: Response, name: str, value: str, lifetime: timedelta | None, *, same_site: str = "Strict"
) -> None:
    """Have the browser keep a value that no script can read.

    Args:
        lifetime: None: until the browser is closed.
    """
    response.set_cookie(
        _named(name),
        value,
        max_age=lifetime,
        path="/",
        secure=is_secure(),
        httponly=True,
        samesite=same_site,
    )


def drop_cookie(response: Response, name: str) -> None:
    """Have the browser forget a value."""
    response.delete_cookie(_named(name), path="/", secure=is_secure(), httponly=True, samesite="Strict")


def cookie(name: str) -> str:
    """Return a value that the browser has kept; empty if it has none."""
    return request.cookies.get(_named(name), "")


def sessions() -> Sessions | None:
    """Return the sessions of browsers; None: this registry has no accounts."""
    logins = authority().logins
    return Sessions(logins) if logins else None


def session() -> Identity | None:
    """Return whose session the browser has; None: nobody's. It is looked for once per request."""
    if "browser_identity" not in g:
        known, text = sessions(), cookie(SESSION)
        g.browser_identity = known.find(text) if known and text else None
        if g.browser_identity:
            claim_account(g.browser_identity.account)
            if uses := key_uses():
                uses.record(session_id(text))
    return g.browser_identity  # type: ignore[no-any-return]  # flask.g is untyped


def begin_session(response: Response, secret: str, lifetime: timedelta) -> None:
    """Have the browser keep a session."""
    set_cookie(response, SESSION, secret, lifetime)


def end_session(response: Response) -> None:
    """End the session of the browser, here and there."""
    if known := sessions():
        known.end(cookie(SESSION))
    drop_cookie(response, SESSION)


def form_token() -> str:
    """Return what the forms of our pages contain, and no other page can know.

    Before there is a session, it is that of a cookie that ``prepare_form`` sets.
    """
    return _token_of(cookie(SESSION) or cookie(FORM) or str(g.get("browser_form", "")))


def prepare_form(response: Response) -> None:
    """Have the browser keep what makes the token of forms secret, if a page needs one without a session."""
    if found := g.get("browser_form"):
        set_cookie(response, FORM, found, None)


def begin_form() -> None:
    """Choose what makes the token of forms secret, unless the browser has something like it."""
    if not cookie(SESSION) and not cookie(FORM):
        g.browser_form = secrets.token_urlsafe(24)


def form() -> Mapping[str, str]:
    """Return the parameters of the body; of one that is given several times, the last.

    Raises:
        ManifestTooLarge, BodyTruncated, ServerBusy: see ``read_limited``.
    """
    return {name: values[-1] for name, values in form_lists().items()}


def form_values(name: str) -> Sequence[str]:
    """Return all values of a parameter of the body, such as what was ticked in a list.

    Raises:
        ManifestTooLarge, BodyTruncated, ServerBusy: see ``read_limited``.
    """
    return form_lists().get(name, [])


def form_lists() -> Mapping[str, list[str]]:
    """Return the parameters of the body, with all their values.

    Raises:
        ManifestTooLarge, BodyTruncated, ServerBusy: see ``read_limited``.
    """
    if "browser_parameters" not in g:
        text = read_limited(_BODY_LIMIT).decode("utf-8", "replace")
        g.browser_parameters = parse_qs(text, keep_blank_values=True)
    return g.browser_parameters  # type: ignore[no-any-return]  # flask.g is untyped


def is_own_form() -> bool:
    """Return whether a form of a page of ours has sent the request."""
    comes_from_us = request.headers.get("Origin") == own_origin()
    comes_from_us = comes_from_us and request.headers.get("Sec-Fetch-Site", "") in _OWN_SITES
    has_secret = bool(cookie(SESSION) or cookie(FORM))
    given = form().get("token", "")
    return comes_from_us and has_secret and hmac.compare_digest(given.encode(), form_token().encode())


def redirect(location: str, status: int = HTTPStatus.SEE_OTHER) -> Response:
    """Return a redirect."""
    return empty_response(status, {"Location": location})


def _token_of(secret: str) -> str:
    return hmac.new(secret.encode(), b"form", hashlib.sha256).hexdigest()


def _named(name: str) -> str:
    """Return the name of a cookie."""
    return _PREFIX + name if is_secure() else name
