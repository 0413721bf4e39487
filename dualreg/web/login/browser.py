"""Browsers: the way to an issuer and back, and the page of who has logged in."""

from flask import Blueprint, Response, request

from dualreg.auth.external_logins import LIFETIME
from dualreg.web.address import own_path, own_url
from dualreg.web.browser import (
    begin_session,
    cookie,
    drop_cookie,
    end_session,
    form_token,
    redirect,
    require_secure,
    session,
    set_cookie,
)
from dualreg.web.context import audit, self_service, settings
from dualreg.web.forwarded import client_address
from dualreg.web.login.page import ATTEMPT, page, require_form
from dualreg.web.login.services import logins, record_login


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("")(get_home)
    blueprint.get("/at/<issuer>")(get_issuer)
    blueprint.get("/at/<issuer>/callback")(get_callback)
    blueprint.post("/end")(post_end)


def get_home() -> Response:
    """Return the keys of who has logged in, or the issuers by which one can; the web UI has both."""
    identity = session()
    if settings().ui == "on":
        return redirect(f"{own_path()}/ui/{'account' if identity else 'login'}")
    if identity is None:
        issuers = [(name, way.issuer.title) for name, way in sorted(logins().ways.items())]
        return page("login.html", issuers=issuers)
    rows = self_service().keys(identity)
    groups = sorted(identity.groups)
    return page("keys.html", account=identity.account, groups=groups, keys=rows, token=form_token())


def get_issuer(issuer: str) -> Response:
    """Send the browser to the issuer. What it keeps meanwhile is sent back by no form of another site."""
    require_secure()
    url, kept = logins().begin(issuer, _redirect_uri(issuer))
    response = redirect(url)
    set_cookie(response, ATTEMPT, kept, LIFETIME, same_site="Lax")
    return response


def get_callback(issuer: str) -> Response:
    """Begin a session for who comes back from the issuer, and lead to the page.

    By a page and not by a redirect: a browser that another site has sent here sends a strict cookie only to
    what a page of ours leads to.
    """
    audit().ready()
    account, secret, lifetime = logins().complete(
        issuer,
        cookie(ATTEMPT),
        request.args.to_dict(),
        redirect_uri=_redirect_uri(issuer),
        address=client_address(),
    )
    record_login(account, issuer)
    response = page("welcome.html", next="/login" if settings().ui == "off" else "/ui/")
    drop_cookie(response, ATTEMPT)
    begin_session(response, secret, lifetime)
    return response


def post_end() -> Response:
    """End the session."""
    require_form()
    response = redirect(f"{own_path()}/login")
    end_session(response)
    return response


def _redirect_uri(issuer: str) -> str:
    """Return where the issuer sends browsers back; each has its own, so that none answers for another."""
    return f"{own_url()}/login/at/{issuer}/callback"
