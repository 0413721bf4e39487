"""``/api/v1/permissions``: the permission rules within the patterns that one manages."""

from flask import Blueprint, Response, g, request

from dualreg.auth.permissions import ACTIONS
from dualreg.catalog.rows import PermissionRow
from dualreg.errors import RequestInvalid
from dualreg.operations.own import AddedActions, ManagedRule, ManagedRules
from dualreg.operations.values import encode
from dualreg.web.api.bodies import read_members, text, texts
from dualreg.web.context import delegation
from dualreg.web.credentials import grant
from dualreg.web.guard import Need, requires
from dualreg.web.responses import json_response


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/permissions")(get_permissions)
    blueprint.post("/permissions")(post_permission)
    blueprint.delete("/permissions")(delete_permission)


@requires(Need.ACCOUNT)
def get_permissions() -> Response:
    """Return the rules, by who and pattern."""
    return json_response(encode(ManagedRules([*map(_managed, delegation().lines(grant().identity))])))


@requires(Need.ACCOUNT)
def post_permission() -> Response:
    """Add actions to a rule, or make it; return the whole rule."""
    members = read_members(AddedActions)
    who, pattern, actions = text(members, "who"), text(members, "pattern"), texts(members, "actions")
    rule = delegation().grant(grant().identity, who, pattern, actions)
    g.facts = {"who": who, "pattern": pattern, "actions": ",".join(actions)}
    return json_response(encode(_managed(rule)))


@requires(Need.ACCOUNT)
def delete_permission() -> Response:
    """Remove actions, or all, from the rule that the query names; return what is left of it."""
    who, pattern = request.args.get("who", ""), request.args.get("pattern", "")
    if not who or not pattern:
        raise RequestInvalid(reason="the query has to name who and pattern")
    actions = [each for each in request.args.get("actions", "").split(",") if each]
    left = delegation().revoke(grant().identity, who, pattern, actions)
    g.facts = {"who": who, "pattern": pattern, "actions": ",".join(actions) or "all"}
    return json_response(encode(_managed(left or PermissionRow(who, pattern, frozenset()))))


def _managed(rule: PermissionRow) -> ManagedRule:
    return ManagedRule(rule.who, rule.pattern, [action for action in ACTIONS if action in rule.actions])
