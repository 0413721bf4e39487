"""Delivering: what the process beside the server does that delivers events to webhooks."""

from functools import partial
from pathlib import Path
from threading import Event

import click

from dualreg.catalog.leading import Duty
from dualreg.cli.admin import prepared_registry
from dualreg.cli.background import end_with
from dualreg.cli.migrate.following import alone
from dualreg.cli.progress import stoppable
from dualreg.registry.outbox import Outbox
from dualreg.settings import Settings
from dualreg.webhooks.delivery import Delivery
from dualreg.webhooks.mark import mark, unmark
from dualreg.webhooks.sending import parse_networks


def deliver_all(data: Path | None, config: Path | None, parent: int | None) -> None:
    """Deliver events for as long as there are webhooks, as the one process of all instances that does.

    Args:
        parent: End with this process.

    Raises:
        LeadLost: another process has taken over.
        click.ClickException: it is a follower, whose tags are those of another registry.
    """
    end_with(parent)
    opened = prepared_registry(data, config, alone=True, announce=False)
    with opened as (registry, settings), stoppable(quiet=True) as stop:
        if settings.follow:
            raise click.ClickException("a follower sends no events; the registry that it follows does")
        outbox = registry.outbox(settings.webhook_give_up)
        if _is_over(settings, outbox):
            return
        with alone(registry, stop, Duty.WEBHOOKS):
            _deliver(settings, outbox, stop)


def _deliver(settings: Settings, outbox: Outbox, stop: Event) -> None:
    networks = parse_networks(settings.webhook_networks)
    if not stop.is_set():
        outbox.resume()
    Delivery(outbox, stop, settings.public_url, networks, partial(_is_over, settings, outbox)).run()


def _is_over(settings: Settings, outbox: Outbox) -> bool:
    """Return whether there are no webhooks, and have the file say so."""
    if not outbox.webhooks():
        unmark(settings.data)
        if not outbox.webhooks():  # what adds one after this look makes the file again
            return True
    mark(settings.data)
    return False
