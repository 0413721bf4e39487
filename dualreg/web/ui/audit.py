"""Audit: who changed what, and who was denied what, with a search."""

from flask import Blueprint, Response, request

from dualreg.operations.audit import words_of
from dualreg.operations.table import OPERATIONS
from dualreg.web.administration import administration, permit
from dualreg.web.ui.arguments import day
from dualreg.web.ui.forms import refused_on
from dualreg.web.ui.page import page, pages

_ROWS = 50
#: What people search by.
_FIELDS = ("pattern", "account", "action", "since", "until")


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/audit")(get_audit)


def get_search() -> Response:
    """Return the form alone, for a search that was refused."""
    return page("audit", "Audit log", found=None, wanted=_wanted())


@refused_on(get_search)
def get_audit() -> Response:
    """Return lines of the audit log, the newest first."""
    # Before a day that is none is refused.
    permit(next(each for each in OPERATIONS if each.command == "audit"), {})
    wanted, after = _wanted(), request.args.get("after", "")
    found = administration().audit.read(
        wanted["pattern"] or None,
        account=wanted["account"],
        action=wanted["action"],
        since=day("since"),
        until=day("until", end=True),
        n=_ROWS,
        after=after or None,
    )
    return page(
        "audit",
        "Audit log",
        found=found,
        rows=[(each, words_of(each)) for each in found.rows],
        wanted=wanted,
        pages=pages("get_audit", after, found.next, **wanted),
    )


def _wanted() -> dict[str, str]:
    return {name: request.args.get(name, "").strip() for name in _FIELDS}
