"""Keys: forms by which people make and revoke API keys, with which their clients log in."""

from datetime import timedelta

from flask import Blueprint, Response, g

from dualreg.errors import RequestInvalid
from dualreg.settings import parse_duration
from dualreg.web.address import own_path
from dualreg.web.browser import form, redirect
from dualreg.web.context import self_service
from dualreg.web.login.page import page, require_form


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.post("/keys")(post_key)
    blueprint.post("/keys/<key>/revoke")(post_revoke)


def post_key() -> Response:
    """Make a key, and show it."""
    identity = require_form()
    made, until = self_service().add_key(
        identity,
        limits=form().get("scope", "").strip(),
        note=form().get("note", "").strip(),
        lifetime=lifetime_of(form().get("expires", "")),
    )
    g.facts = {"key": made.id}
    return page("key.html", account=identity.account, secret=made.text, until=until)


def post_revoke(key: str) -> Response:
    """Revoke a key."""
    self_service().revoke_key(require_form(), key)
    g.facts = {"key": key}
    return redirect(f"{own_path()}/login")


def lifetime_of(text: str) -> timedelta | None:
    """Return a duration such as ``90d``; None: as long as the login is renewed.

    Raises:
        RequestInvalid: it is none.
    """
    try:
        return parse_duration(text) if text else None
    except ValueError as error:
        raise RequestInvalid(reason=f"expires: {error}") from error
