"""Farewell: which clients still use V1, whether it can be switched off, and buttons that do so."""

from collections.abc import Mapping

from flask import Blueprint, Response

from dualreg.registry.v1_mode import V1Mode
from dualreg.web import browser
from dualreg.web.administration import administration
from dualreg.web.ui.arguments import one_of
from dualreg.web.ui.page import may_change, page, url
from dualreg.web.ui.plots import bars

#: What buttons say that switch V1.
_TITLES: Mapping[V1Mode, str] = {
    V1Mode.ON: "Serve all of V1 again",
    V1Mode.READONLY: "Switch V1 to readonly",
    V1Mode.OFF: "Switch V1 off",
}


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/farewell")(get_farewell)
    blueprint.post("/farewell")(post_v1)


def get_farewell() -> Response:
    """Return how far the move away from V1 has come."""
    found = administration().service.farewell()
    groups = (
        ("Version", "versions", found.versions),
        ("Address", "addresses", found.addresses),
        ("Repository", "repositories", found.repositories),
    )
    plot = bars([(f"{week.begin:%Y-%m-%d}", week.clients, f"{week.clients}") for week in found.weeks])
    return page(
        "farewell",
        "Farewell to V1",
        found=found,
        state=found.mode,
        buttons=[(each, _TITLES[each]) for each in found.mode.others],
        change=may_change(),
        groups=groups,
        plot=plot,
    )


def post_v1() -> Response:
    """Switch V1."""
    administration().v1.set(one_of("v1", browser.form().get("v1", ""), V1Mode))
    return browser.redirect(url("get_farewell"))
