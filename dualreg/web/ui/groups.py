"""Groups: which accounts are in them."""

from flask import Blueprint, Response

from dualreg.web import browser
from dualreg.web.administration import administration
from dualreg.web.ui.forms import refused_on
from dualreg.web.ui.page import may_change, page, url


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/groups")(get_groups)
    blueprint.post("/groups")(post_member)


def get_groups() -> Response:
    """Return the groups with their members."""
    return page("groups", "Groups", rows=administration().members.list(), change=may_change())


@refused_on(get_groups)
def post_member() -> Response:
    """Add an account to a group, or remove it from there."""
    given, members = browser.form(), administration().members
    move = members.remove if given.get("change") == "remove" else members.add
    move(given.get("group", "").strip(), given.get("account", "").strip())
    return browser.redirect(url("get_groups"))
