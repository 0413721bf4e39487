"""Webhooks: whether receivers get their events, what waits, what was given up, and sending that again."""

import re

from flask import Blueprint, Response, request

from dualreg.errors import RequestInvalid
from dualreg.registry.webhooks import Action, Format
from dualreg.web import browser
from dualreg.web.administration import administration
from dualreg.web.ui.arguments import one_of
from dualreg.web.ui.forms import refused_on
from dualreg.web.ui.page import Crumb, may_change, page, pages, url

#: Events of a page.
_ROWS = 50
_NUMBER = re.compile("[0-9]{1,18}", re.ASCII)


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/webhooks")(get_webhooks)
    blueprint.post("/webhooks")(post_webhook)
    blueprint.get("/webhook")(get_webhook)
    blueprint.get("/webhook/remove")(get_webhook_removal)
    blueprint.post("/webhook/remove")(post_webhook_removal)
    blueprint.post("/webhook/replay")(post_replay)
    blueprint.post("/webhook/retry")(post_retry)
    blueprint.post("/webhook/ping")(post_ping)


def get_webhooks() -> Response:
    """Return the list of webhooks."""
    rows = [(each, url("get_webhook", name=each.name)) for each in administration().webhooks.list()]
    return page("webhooks", "Webhooks", rows=rows, change=may_change(), actions=[*Action], formats=[*Format])


@refused_on(get_webhooks)
def post_webhook() -> Response:
    """Add a webhook, whose events are not signed, and return its page."""
    given, ticked = browser.form(), browser.form_values("actions")
    added = administration().webhooks.add(
        given.get("name", "").strip(),
        given.get("url", "").strip(),
        given.get("patterns", "").split() or ("*",),
        [one_of("actions", each, Action) for each in ticked],
        one_of("format", given.get("format", ""), Format),
    )
    return browser.redirect(url("get_webhook", name=added.webhook))


def get_webhook() -> Response:
    """Return a webhook, with the events that it has not got."""
    return _webhook_page(request.args.get("name", ""))


def get_webhook_removal() -> Response:
    """Return what would be forgotten with a webhook."""
    found = administration().webhooks.remove(request.args.get("name", ""), dry_run=True)
    crumbs = [*_crumbs(found.webhook), Crumb("Remove")]
    return page("webhook_removal", f"Remove {found.webhook}?", crumbs, found=found, change=may_change())


def post_webhook_removal() -> Response:
    """Remove a webhook."""
    administration().webhooks.remove(_name())
    return browser.redirect(url("get_webhooks"))


def post_replay() -> Response:
    """Send the events again that were ticked, or all that were given up."""
    name, ids = _name(), [_number(each) for each in browser.form_values("id")]
    administration().webhooks.replay(name, ids)
    return browser.redirect(url("get_webhook", name=name))


def post_retry() -> Response:
    """Send what waits now."""
    name = _name()
    administration().webhooks.retry(name)
    return browser.redirect(url("get_webhook", name=name))


def post_ping() -> Response:
    """Send a ping, and return the page of the webhook with the answer."""
    name = _name()
    return _webhook_page(name, administration().webhooks.test(name))


def _webhook_page(name: str, ping: object = None) -> Response:
    """Return the page of a webhook.

    Args:
        ping: What its receiver has answered; None: it was not asked.
    """
    operations, after = administration(), request.args.get("after", "")
    dead = "dead" in request.args
    events = operations.webhooks.events(name, dead=dead, n=_ROWS, after=after or None)
    (found,) = operations.webhooks.list(name)
    return page(
        "webhook",
        name,
        [*_crumbs(name)[:1], Crumb(name)],
        webhook=found,
        events=events.rows,
        dead=dead,
        ticks=dead and may_change(),
        caption="Events that were given up" if dead else "Events that wait, in order",
        waits=url("get_webhook", name=name),
        given_up=url("get_webhook", name=name, dead=1),
        removal=url("get_webhook_removal", name=name),
        ping=ping,
        change=may_change(),
        pages=pages("get_webhook", after, events.next, name=name, dead="1" if dead else ""),
    )


def _crumbs(name: str) -> list[Crumb]:
    return [Crumb("Webhooks", url("get_webhooks")), Crumb(name, url("get_webhook", name=name))]


def _name() -> str:
    return browser.form().get("name", "")


def _number(text: str) -> int:
    """Return the number of an event.

    Raises:
        RequestInvalid: it is none.
    """
    if _NUMBER.fullmatch(text) is None:
        raise RequestInvalid(reason="an event has no such number")
    return int(text)
