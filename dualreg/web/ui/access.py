"""Access: permission rules, what they decide, and buttons that grant and revoke."""

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.image.names import RepositoryName
from dualreg.operations.access import rule_actions
from dualreg.web import browser
from dualreg.web.administration import administration
from dualreg.web.ui.arguments import choice
from dualreg.web.ui.forms import refused_on
from dualreg.web.ui.page import Crumb, may_change, page, url


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/access")(get_access)
    blueprint.post("/access")(post_rule)
    blueprint.post("/access/revoke")(post_revocation)
    blueprint.get("/access/explain")(get_decision)


def get_access() -> Response:
    """Return the permission rules."""
    found = administration().access.list()
    return page(
        "access",
        "Access",
        rows=[(each, rule_actions(each)) for each in found.rules],
        file=found.file,
        change=may_change() and not found.file,
        action=Action.PULL,
        actions=[*Action],
    )


@refused_on(get_access)
def post_rule() -> Response:
    """Allow actions, and return what that has made of the rule."""
    given = browser.form()
    granted = administration().access.grant(
        given.get("who", "").strip(), given.get("pattern", "").strip(), given.get("actions", "").strip()
    )
    crumbs = [Crumb("Access", url("get_access")), Crumb("Granted")]
    return page("granted", "Granted", crumbs, granted=granted, actions=rule_actions(granted.rule))


def post_revocation() -> Response:
    """Remove a rule."""
    given = browser.form()
    administration().access.revoke(given.get("who", ""), given.get("pattern", ""))
    return browser.redirect(url("get_access"))


@refused_on(get_access)
def get_decision() -> Response:
    """Return whether somebody may do something, and by which rule."""
    who = request.args.get("who", "").strip() or "anonymous"
    repository = RepositoryName.parse(request.args.get("repository", "").strip())
    action = choice("action", Action, Action.PULL)
    found = administration().access.explain(who, repository, action)
    crumbs = [Crumb("Access", url("get_access")), Crumb("Explain")]
    return page(
        "decision",
        "Permissions explained",
        crumbs,
        who=who,
        repository=repository,
        action=action,
        actions=[*Action],
        found=found,
    )
