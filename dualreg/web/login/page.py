"""Pages: how those under ``/login`` are written.

Source: Content Security Policy 3.
"""

import base64
import hashlib
from functools import cache

from flask import Response, render_template

from dualreg.auth.access import Identity
from dualreg.errors import LoginRefused, RegistryError
from dualreg.web.address import own_path, shown_host
from dualreg.web.browser import is_own_form, session
from dualreg.web.responses import retry_header
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
#: The name of the cookie of a login that has begun.
ATTEMPT = "dualreg_login"


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


def require_form() -> Identity:
    """Return whose session it is, if a form of our own page sent the request.

    Raises:
        LoginRefused: no session, or another page.
    """
    identity = session()
    if identity is None:
        raise LoginRefused(reason="your session has ended; log in again")
    if not is_own_form():
        raise LoginRefused(reason="this form is not of a page of this registry; open the page again")
    return identity


@cache
def _policy() -> str:
    """Return what pages may load, which is their own style, and where their forms may lead."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    )
