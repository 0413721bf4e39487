"""Keys: forms by which people make and revoke API keys, with which their clients log in."""

from flask import Blueprint, Response

from dualreg.web import own
from dualreg.web.address import own_path
from dualreg.web.browser import form, redirect
from dualreg.web.login.page import page, require_form


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.post("/keys")(post_key)
    blueprint.post("/keys/<key>/revoke")(post_revoke)


def post_key() -> Response:
    """Make a key, and show it."""
    identity = require_form()
    made, until = own.add_typed_key(identity, form())
    return page("key.html", account=identity.account, secret=made.text, until=until)


def post_revoke(key: str) -> Response:
    """Revoke a key."""
    own.revoke_key(require_form(), key)
    return redirect(f"{own_path()}/login")
