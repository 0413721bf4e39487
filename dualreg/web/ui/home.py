"""Home: one's own repositories, what was pushed last, and how the first image is pushed."""

from flask import Blueprint, Response

from dualreg.web.administration import administration
from dualreg.web.browser import session
from dualreg.web.ui.commands import first_pushes
from dualreg.web.ui.page import page, v1_mode

#: Repositories and moves that are shown.
_ROWS = 10


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/")(get_home)


def get_home() -> Response:
    """Return the page."""
    identity, operations = session(), administration()
    account = identity.account if identity else ""
    own = operations.repositories.list(own=True, n=_ROWS)
    return page(
        "home",
        "Home",
        own=own.rows,
        more=own.next is not None,
        moves=operations.tags.recent(n=_ROWS),
        commands=first_pushes(account, v1_mode()),
    )
