"""Navigation: which pages all pages link to, and for whom."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from flask import current_app, g, request, url_for

from dualreg.web.address import own_path
from dualreg.web.administration import administers
from dualreg.web.browser import session
from dualreg.web.context import parts


class For(Enum):
    """Who is shown a link."""

    EVERYBODY = "everybody"
    ACCOUNT = "who has logged in"
    ADMINISTRATOR = "administrators"
    MANAGER = "administrators, where there are accounts"


class Entry(NamedTuple):
    """A page that all pages link to: its view, and that of pages below it.

    Attributes:
        group: The module that has the pages for which the link is shown as the current one.
    """

    title: str
    view: str
    group: str
    shown: For = For.EVERYBODY


class Link(NamedTuple):
    """A link to a page; *current*: it is the page that is shown, or one below it."""

    title: str
    href: str
    current: bool


#: All of them, in order. A page is added here, and in ``ui/__init__.py``.
ENTRIES = (
    Entry("Home", "get_home", "home"),
    Entry("Repositories", "get_repositories", "repositories"),
    Entry("Farewell to V1", "get_farewell", "farewell", For.ADMINISTRATOR),
    Entry("Old formats", "get_formats", "formats", For.ADMINISTRATOR),
    Entry("Moving in", "get_migrations", "migrations", For.ADMINISTRATOR),
    Entry("Operations", "get_operations", "operations", For.ADMINISTRATOR),
    Entry("Access", "get_access", "access", For.MANAGER),
)
#: Pages that those of one entry link to, besides what all link to.
SECTIONS: Mapping[str, Sequence[Entry]] = {
    "operations": (
        Entry("Overview", "get_operations", "operations", For.ADMINISTRATOR),
        Entry("Usage", "get_usage", "usage", For.ADMINISTRATOR),
        Entry("Tasks", "get_tasks", "tasks", For.ADMINISTRATOR),
        Entry("Webhooks", "get_webhooks", "webhooks", For.MANAGER),
        Entry("Audit log", "get_audit", "audit", For.MANAGER),
    ),
    "access": (
        Entry("Rules", "get_access", "access", For.MANAGER),
        Entry("Accounts", "get_accounts", "accounts", For.MANAGER),
        Entry("Groups", "get_groups", "groups", For.MANAGER),
        Entry("API keys", "get_all_keys", "all_keys", For.MANAGER),
    ),
}
#: The group of pages that are below those of another one.
_BELOW = {
    "comparison": "repositories",
    "images": "repositories",
    "faces": "repositories",
    "layers": "repositories",
    "tags": "repositories",
    "ticked": "repositories",
}


def links() -> Sequence[Link]:
    """Return the links for who asks."""
    module = _current_module()
    return _links(ENTRIES, _BELOW.get(module) or _section_of(module) or module)


def section() -> Sequence[Link]:
    """Return the links of the section that the page is in, for who asks; empty: it is in none."""
    module = _current_module()
    return _links(SECTIONS.get(_section_of(module), ()), module)


def _section_of(module: str) -> str:
    """Return the section that a module is in; empty: it is in none."""
    found = (name for name, entries in SECTIONS.items() if any(each.group == module for each in entries))
    return next(found, "")


def _links(entries: Sequence[Entry], current: str) -> Sequence[Link]:
    return [
        Link(each.title, own_path() + url_for(f"ui.{each.view}"), each.group == current)
        for each in entries
        if _sees(each.shown)
    ]


def _sees(shown: For) -> bool:
    if shown is For.ADMINISTRATOR:
        return _administers()
    if shown is For.MANAGER:
        return parts().delegation is not None and _administers()
    return shown is For.EVERYBODY or session() is not None


def _administers() -> bool:
    """Return whether the account is an administrator; it is looked for once per request."""
    if "shows_administration" not in g:
        g.shows_administration = administers()
    return bool(g.shows_administration)


def _current_module() -> str:
    """Return the module that has the view of the request."""
    view = current_app.view_functions.get(request.endpoint or "")
    return str(getattr(view, "__module__", "")).rpartition(".")[2]
