"""Tasks: what the service does by itself, when it did so last and does so next, and a button to do it now."""

from flask import Blueprint, Response

from dualreg.web import browser
from dualreg.web.administration import administration
from dualreg.web.ui.page import may_change, page, url


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/tasks")(get_tasks)
    blueprint.post("/tasks")(post_task)


def get_tasks() -> Response:
    """Return the list of tasks."""
    return page("tasks", "Tasks", tasks=administration().tasks.list(), change=may_change())


def post_task() -> Response:
    """Start a task, which goes on beside the server."""
    administration().tasks.start(browser.form().get("name", ""))
    return browser.redirect(url("get_tasks"))
