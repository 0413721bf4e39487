"""Accounts: who there is, who may log in now, and buttons that change that."""

from collections.abc import Callable, Mapping

from flask import Blueprint, Response

from dualreg.errors import RequestInvalid
from dualreg.operations.table import Administration
from dualreg.web import browser
from dualreg.web.administration import administration
from dualreg.web.ui.page import may_change, page, url

#: What buttons of the list do with an account.
_CHANGES: Mapping[str, Callable[[Administration, str], object]] = {
    "disable": lambda operations, name: operations.accounts.disable(name),
    "enable": lambda operations, name: operations.accounts.enable(name),
    "unlock": lambda operations, name: operations.accounts.unlock(name),
    "logout": lambda operations, name: operations.accounts.log_out(name),
}


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/accounts")(get_accounts)
    blueprint.post("/accounts")(post_account)


def get_accounts() -> Response:
    """Return the accounts."""
    return page("accounts", "Accounts", rows=administration().accounts.list(), change=may_change())


def post_account() -> Response:
    """Disable, enable or unlock an account, or end its logins.

    Raises:
        RequestInvalid: it is none of these.
    """
    given = browser.form()
    change = _CHANGES.get(given.get("change", ""))
    if change is None:
        raise RequestInvalid(reason=f"expected a change of {', '.join(_CHANGES)}")
    change(administration(), given.get("name", ""))
    return browser.redirect(url("get_accounts"))
