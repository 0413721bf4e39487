"""Operations: whether the registry works, how it grows, what its tasks did, and what they would delete."""

from flask import Blueprint, Response, request

from dualreg.web import context
from dualreg.web.administration import administration
from dualreg.web.ui.page import Crumb, may_change, page, url
from dualreg.web.ui.plots import bars
from dualreg.web.ui.texts import size

#: Days that are shown.
_DAYS = 90
#: The tasks that are shown, and those of which a preview is offered.
_TASKS, _PREVIEWED = ("gc", "retention", "growth", "scrub"), ("gc", "retention")


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/operations")(get_operations)
    blueprint.get("/operations/preview")(get_preview)


def get_operations() -> Response:
    """Return whether the registry works, how it grows, and what its tasks did last and do next."""
    operations = administration()
    days = operations.service.growth(_DAYS)
    stored = [(day, day.stored.bytes if day.stored else 0) for day in days]
    return page(
        "operations",
        "Operations",
        state=operations.service.status(),
        days=days[::-1],
        stored=bars([(day.day, count, size(count)) for day, count in stored]),
        pulled=bars([(day.day, day.pulls, f"{day.pulls}") for day in days]),
        tasks=[each for each in operations.tasks.list() if each.name in _TASKS],
        previewed=() if context.authority().is_open or context.settings().follow else _PREVIEWED,
        change=may_change(),
    )


def get_preview() -> Response:
    """Return what a task would delete now."""
    found = administration().tasks.preview(request.args.get("name", ""))
    crumbs = [Crumb("Operations", url("get_operations")), Crumb(f"Preview of {found.name}")]
    return page("preview", f"Preview of {found.name}", crumbs, found=found, change=may_change())
