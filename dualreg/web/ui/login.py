"""Logging in, by the password of an account or by an issuer, and out."""

from flask import Blueprint, Response, g

from dualreg.auth.access import ANONYMOUS, Grant
from dualreg.auth.sessions import LIFETIME
from dualreg.errors import NotAllowed
from dualreg.web import browser, context
from dualreg.web.address import own_path
from dualreg.web.credentials import claim_account
from dualreg.web.forwarded import client_address
from dualreg.web.ui.forms import refused_on
from dualreg.web.ui.page import page, url

#: Characters of a password; bcrypt looks at 72 bytes of it.
_PASSWORD_LIMIT = 1000


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/login")(get_login)
    blueprint.post("/login")(post_login)
    blueprint.post("/logout")(post_logout)


def get_login() -> Response:
    """Return the form, and the issuers by which one can log in."""
    browser.begin_form()
    found = context.settings().login_issuers.items()
    issuers = [(f"{own_path()}/login/at/{name}", each.title or name) for name, each in sorted(found)]
    return page("login", "Log in", issuers=issuers)


@refused_on(get_login)
def post_login() -> Response:
    """Log in.

    Raises:
        Unauthenticated, TooManyAttempts, ServerBusy: see ``Sessions.log_in``.
        LoginRefused: the password could be read on its way.
        NotAllowed: this registry has no accounts.
    """
    known = browser.sessions()
    if known is None:
        raise NotAllowed(reason="this registry has no accounts")
    browser.require_secure()
    account, password = browser.form().get("account", ""), browser.form().get("password", "")
    g.grant = Grant(ANONYMOUS, ())  # whoever the browser is logged in as, the audit log says who logs in
    claim_account(account)
    context.audit().ready()
    secret = known.log_in(account, password[:_PASSWORD_LIMIT], client_address())
    known.end(browser.cookie(browser.SESSION))  # the browser forgets that one
    g.facts = {"command": "log in"}
    response = browser.redirect(url("get_home"))
    browser.begin_session(response, secret, LIFETIME)
    browser.drop_cookie(response, browser.FORM)
    return response


def post_logout() -> Response:
    """End the session."""
    g.facts = {"command": "log out"}
    response = browser.redirect(url("get_home"))
    browser.end_session(response)
    return response
