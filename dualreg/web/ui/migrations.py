"""Migrations: runs of ``dualreg migrate``, what they left out and how to mend it, and how to undo them."""

from flask import Blueprint, Response, request

from dualreg.web.administration import administration
from dualreg.web.ui.commands import migration
from dualreg.web.ui.page import Crumb, page, pages, url
from dualreg.web.ui.texts import instant

_ROWS = 20


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/migrations")(get_migrations)
    blueprint.get("/migrations/run")(get_run)


def get_migrations() -> Response:
    """Return the list of runs."""
    after = request.args.get("after", "")
    found = administration().migrations.runs(n=_ROWS, after=after)
    return page(
        "migrations",
        "Moving in",
        rows=[(each, url("get_run", run=each.run)) for each in found.rows],
        pages=pages("get_migrations", after, found.next),
    )


def get_run() -> Response:
    """Return how far a run is; while it is running, the page is read again every few seconds."""
    run = request.args.get("run", "")
    found = administration().migrations.status(run)
    return page(
        "run",
        f"Run {run}",
        [Crumb("Moving in", url("get_migrations")), Crumb(run)],
        found=found,
        started=instant(found.run.at),
        address=url("get_run", run=run),
        trigger="every 5s" if found.is_running else "",
        commands=migration(run, found.run.source),
    )
