"""Farewell: which clients still use V1, and whether it can be set to readonly or off."""

from flask import Blueprint, Response

from dualreg.web.administration import administration
from dualreg.web.ui.page import page
from dualreg.web.ui.plots import bars


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/farewell")(get_farewell)


def get_farewell() -> Response:
    """Return how far the move away from V1 has come."""
    found = administration().service.farewell()
    groups = (
        ("Version", "versions", found.versions),
        ("Address", "addresses", found.addresses),
        ("Repository", "repositories", found.repositories),
    )
    plot = bars([(f"{week.begin:%Y-%m-%d}", week.clients, f"{week.clients}") for week in found.weeks])
    return page("farewell", "Farewell to V1", found=found, groups=groups, plot=plot)
