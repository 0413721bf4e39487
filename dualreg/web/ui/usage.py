"""Usage: how many bytes namespaces have, and quotas with how full they are, which forms set and remove."""

from collections.abc import Sequence
from dataclasses import dataclass

from flask import Blueprint, Response, request

from dualreg.catalog.rows import QuotaRow
from dualreg.errors import RequestInvalid
from dualreg.registry.usage import ListedNamespace
from dualreg.web import browser
from dualreg.web.administration import administration
from dualreg.web.ui.arguments import choice, size_of
from dualreg.web.ui.forms import refused_on
from dualreg.web.ui.page import may_change, page, pages, url

#: Rows of a page, and components of names that make a namespace.
_ROWS, _DEPTHS = 20, ("1", "2", "3", "4", "5")


@dataclass(frozen=True, slots=True)
class QuotaLine:
    """A quota, and how full it is in percent; None: nothing was counted yet."""

    quota: QuotaRow
    percent: int | None


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/usage")(get_usage)
    blueprint.post("/usage/quota")(post_quota)
    blueprint.post("/usage/quota/remove")(post_quota_removal)


def get_usage() -> Response:
    """Return the quotas, and how many bytes namespaces have."""
    depth, after = choice("depth", _DEPTHS, "1"), request.args.get("after", "")
    operations = administration()
    quotas = operations.quotas.list()
    found = operations.usage.overview(int(depth), n=_ROWS, after=after)
    return page(
        "usage",
        "Usage",
        quotas=[_line(each) for each in quotas],
        rows=_with_links(found.rows),
        depth=depth,
        depths=_DEPTHS,
        pages=pages("get_usage", after, found.next, depth=depth),
        change=may_change(),
    )


@refused_on(get_usage)
def post_quota() -> Response:
    """Set a quota.

    Raises:
        RequestInvalid: a size is missing, or none.
    """
    given = browser.form()
    size, soft = (size_of(name, given.get(name, "")) for name in ("size", "soft"))
    if size is None:
        raise RequestInvalid(reason="size is missing")
    administration().quotas.set(given.get("pattern", "").strip(), size, soft)
    return browser.redirect(url("get_usage"))


def post_quota_removal() -> Response:
    """Remove a quota."""
    administration().quotas.remove(browser.form().get("pattern", ""))
    return browser.redirect(url("get_usage"))


def _line(quota: QuotaRow) -> QuotaLine:
    if quota.used is None:
        return QuotaLine(quota, None)
    return QuotaLine(quota, 100 * quota.used // quota.size if quota.size else 100)


def _with_links(rows: Sequence[ListedNamespace]) -> Sequence[tuple[ListedNamespace, str]]:
    """Return namespaces with the pages of what is in them."""
    return [
        (
            row,
            url("get_repository", repository=row.name)
            if row.is_repository
            else url("get_repositories", under=f"{row.name}/"),
        )
        for row in rows
    ]
