"""One's own account: what it may do, its password, API keys and logins, and forms that change them."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from flask import Blueprint, Response, request

from dualreg.auth.access import REPOSITORY, Identity
from dualreg.auth.permissions import ACTIONS
from dualreg.auth.sessions import LIFETIME, session_id
from dualreg.catalog.rows import SecretRow
from dualreg.errors import NotAllowed, RequestInvalid
from dualreg.web import browser, context, own
from dualreg.web.credentials import grant
from dualreg.web.ui.forms import refused_on
from dualreg.web.ui.page import Crumb, may_change, page, url

#: When keys that are made here end, and how people say that; the first is the default.
_LIFETIMES: Mapping[str, str] = {
    "90d": "after 90 days",
    "30d": "after 30 days",
    "365d": "after a year",
    "": "not by itself",
}


class Login(NamedTuple):
    """A refresh token or a session; *current*: it is that of this browser."""

    row: SecretRow
    current: bool


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/account")(get_account)
    blueprint.post("/account/password")(post_password)
    blueprint.post("/account/keys")(post_own_key)
    blueprint.post("/account/keys/revoke")(post_own_key_revocation)
    blueprint.post("/account/logins/end")(post_login_end)
    blueprint.post("/account/logins/end-others")(post_other_logins_end)


def get_account() -> Response:
    """Return the page of who has logged in; who has not is led to the form."""
    identity = browser.session()
    if identity is None:
        return browser.redirect(url("get_login"))
    service, here = context.self_service(), session_id(browser.cookie(browser.SESSION))
    return page(
        "account",
        "My account",
        account=identity.account,
        groups=sorted(identity.groups),
        manages=[*context.delegation().patterns(identity)],
        allowed=_allowed(),
        keys=service.keys(identity),
        logins=[Login(row, row.id == here) for row in service.lasting_logins(identity)],
        has_password=identity.password,
        changes_password=identity.password and service.accounts.is_here(identity.account),
        lifetimes=_LIFETIMES,
        change=may_change(),
        done="done" in request.args,
    )


@refused_on(get_account)
def post_password() -> Response:
    """Change the password. This browser stays logged in, by a session that begins now.

    Raises:
        RequestInvalid: the new password was not typed twice. Also what ``own.change_password`` raises.
    """
    identity, given = _changing(), browser.form()
    if given.get("new", "") != given.get("again", ""):
        raise RequestInvalid(reason="the new password was typed in two ways; type it again")
    own.change_password(identity, given.get("old", ""), given.get("new", ""))
    response = browser.redirect(url("get_account", done=1))
    if known := browser.sessions():
        browser.begin_session(response, known.begin(identity.account, LIFETIME), LIFETIME)
    return response


@refused_on(get_account)
def post_own_key() -> Response:
    """Create an API key, and show it once."""
    identity = _changing()
    made, until = own.add_typed_key(identity, browser.form())
    crumbs = [Crumb("My account", url("get_account")), Crumb("New API key")]
    return page("created_key", "New API key", crumbs, account=identity.account, text=made.text, until=until)


def post_own_key_revocation() -> Response:
    """Revoke an API key, and the keys that were created with it."""
    own.revoke_key(_changing(), browser.form().get("id", ""))
    return browser.redirect(url("get_account"))


def post_login_end() -> Response:
    """Revoke a refresh token, or end a session of a browser."""
    own.end_login(_changing(), browser.form().get("id", ""))
    return browser.redirect(url("get_account"))


def post_other_logins_end() -> Response:
    """End all logins but the session of this browser."""
    own.end_logins(_changing(), keep=session_id(browser.cookie(browser.SESSION)))
    return browser.redirect(url("get_account"))


def _changing() -> Identity:
    """Return who has logged in, and changes something now.

    Raises:
        NotAllowed: nobody has.
        ReadOnly: the registry is read-only.
    """
    identity = browser.session()
    if identity is None:
        raise NotAllowed(reason="log in first")
    context.writes().require_allowed()
    return identity


def _allowed() -> list[tuple[str, str]]:
    """Return patterns of repositories, each with what the account may do there."""
    found = defaultdict[str, set[str]](set)
    for each in grant().accesses:
        if each.type == REPOSITORY:
            found[each.name] |= each.actions
    return [(name, ", ".join(a for a in ACTIONS if a in found[name])) for name in sorted(found)]
