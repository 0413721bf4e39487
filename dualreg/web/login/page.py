"""Pages: how those under ``/login`` are written, and the cookies of the browsers that show them.

Source: RFC 6265bis, sections 4.1.2.7 (SameSite) and 4.1.3 (prefixes); Content Security Policy 3.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from flask import Response, g, render_template, request

from dualreg.auth.access import Identity
from dualreg.errors import LoginRefused, RegistryError
from dualreg.web.address import own_origin, own_path, own_url, shown_host
from dualreg.web.body import read_limited
from dualreg.web.credentials import claim_account
from dualreg.web.login.services import logins
from dualreg.web.responses import empty_response, retry_header
from dualreg.web.v2.errors import V2_ERRORS

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #d0d7de}"
    "code,pre{font:14px ui-monospace,monospace;background:#f3f5f7;padding:.2rem .4rem;overflow-x:auto}"
    "button,.button{font:inherit;padding:.3rem .9rem;border:1px solid #57606a;border-radius:4px;"
    "background:#f6f8fa;color:inherit;text-decoration:none;display:inline-block}"
    "label{margin-right:1rem}.error{border-left:4px solid #b42318;padding-left:1rem}"
)
#: Names of cookies: of the session, and of a login that has begun. Over https, with a prefix that keeps other
#: hosts of the domain from setting them.
SESSION, ATTEMPT = "dualreg_session", "dualreg_login"
_PREFIX = "__Host-"
_BODY_LIMIT = 16 << 10


def page(name: str, *, status: int = 200, **values: object) -> Response:
    """Return the page of a template."""
    common = {"style": _STYLE, "path": own_path(), "host": shown_host()}
    text = render_template(name, **common, **values)
    return Response(text, status, content_type="text/html; charset=utf-8")


def seal_page(response: Response) -> Response:
    """Forbid to store the response, to frame it, and to load anything for it."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = _policy()
    # Browsers leave out where a form comes from if they may not say it at all.
    response.headers["Referrer-Policy"] = "same-origin"
    return response


def render_error(error: RegistryError) -> Response:
    """Return the page that says what went wrong."""
    status = V2_ERRORS[type(error)].status
    response = page("failed.html", status=status, message=error.message, explanation=error.explanation())
    response.headers.update(retry_header(error))
    return response


def require_secure() -> None:
    """Check that cookies and keys cannot be read on their way.

    Raises:
        LoginRefused: they can.
    """
    if not _is_secure() and urlsplit(own_url()).hostname not in ("localhost", "127.0.0.1", "::1"):
        reason = "logins need https; if a proxy provides it, the operator has to set public_url"
        raise LoginRefused(reason=reason)


def set_cookie(response: Response, name: str, value: str, lifetime: timedelta, *, same_site: str) -> None:
    """Have the browser keep a value that no script can read."""
    response.set_cookie(
        _named(name),
        value,
        max_age=lifetime,
        path="/",
        secure=_is_secure(),
        httponly=True,
        samesite=same_site,
    )


def drop_cookie(response: Response, name: str) -> None:
    """Have the browser forget a value."""
    response.delete_cookie(_named(name), path="/", secure=_is_secure(), httponly=True, samesite="Strict")


def cookie(name: str) -> str:
    """Return a value that the browser has kept; empty if it has none."""
    return request.cookies.get(_named(name), "")


def session() -> Identity | None:
    """Return whose session the browser has; None: nobody's."""
    text = cookie(SESSION)
    identity = logins().logins.by_session(text) if text else None
    if identity:
        claim_account(identity.account)
    return identity


def form_token() -> str:
    """Return what forms of pages for this session contain, and no other page can know."""
    return hmac.new(cookie(SESSION).encode(), b"form", hashlib.sha256).hexdigest()


def form() -> Mapping[str, str]:
    """Return the parameters of the body.

    Raises:
        ManifestTooLarge, BodyTruncated, ServerBusy: see ``read_limited``.
    """
    if "form" not in g:
        found = parse_qs(read_limited(_BODY_LIMIT).decode("utf-8", "replace"))
        g.form = {name: values[-1] for name, values in found.items()}
    return g.form  # type: ignore[no-any-return]  # flask.g is untyped


def require_form() -> Identity:
    """Return whose session it is, if a form of our own page sent the request.

    Raises:
        LoginRefused: no session, or another page.
    """
    identity = session()
    if identity is None:
        raise LoginRefused(reason="your session has ended; log in again")
    is_own = request.headers.get("Origin") == own_origin()
    if not is_own or not hmac.compare_digest(form().get("token", "").encode(), form_token().encode()):
        raise LoginRefused(reason="this form is not of a page of this registry; open the page again")
    return identity


def redirect(location: str, status: int = HTTPStatus.SEE_OTHER) -> Response:
    """Return a redirect."""
    return empty_response(status, {"Location": location})


@cache
def _policy() -> str:
    """Return what pages may load, which is their own style, and where their forms may lead."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    )


def _is_secure() -> bool:
    """Return whether browsers reach this registry by https."""
    return own_url().startswith("https://")


def _named(name: str) -> str:
    """Return the name of a cookie."""
    return _PREFIX + name if _is_secure() else name
