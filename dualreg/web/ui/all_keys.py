"""API keys of all accounts, with their last use."""

from flask import Blueprint, Response

from dualreg.web import browser
from dualreg.web.administration import administration
from dualreg.web.ui.page import may_change, page, url


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/access/keys")(get_all_keys)
    blueprint.post("/access/keys/revoke")(post_key_revocation)


def get_all_keys() -> Response:
    """Return the API keys."""
    return page("all_keys", "API keys", rows=administration().keys.list(), change=may_change())


def post_key_revocation() -> Response:
    """Revoke an API key, and the keys that were created with it."""
    administration().keys.revoke(browser.form().get("id", ""))
    return browser.redirect(url("get_all_keys"))
