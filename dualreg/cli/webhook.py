"""``dualreg webhook``: receivers of events, and what they have not got."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from uuid import uuid4

import click

from dualreg.catalog.outbox import QueuedEvent
from dualreg.catalog.webhooks import WebhookRow
from dualreg.cli.admin import Record, audited_registry, prepared_registry
from dualreg.cli.background_delivery import mark
from dualreg.cli.delivering import deliver_all
from dualreg.cli.options import json_option, parse_time, settings_options
from dualreg.cli.output import Columns, counted, echo, echo_json, minute, second, table
from dualreg.cli.paging import print_pages
from dualreg.registry import Registry
from dualreg.registry.webhooks import Action, Format, ListedWebhook, action_of
from dualreg.remote.endpoint import redact
from dualreg.settings import Settings
from dualreg.webhooks.documents import ping_document
from dualreg.webhooks.sending import Attempt, Sender, parse_networks

_HEADINGS = ("NAME", "URL", "EVENTS", "STATE", "WAITING", "DEAD", "LAST DELIVERY")
#: Events that are printed together.
_PAGE = 100


@click.group()
def webhook() -> None:
    """Manage webhooks.

    A webhook gets an event for each push and deletion of a tag, by an HTTP POST: at least once, and in order
    for each repository. See docs/webhooks.md.
    """


@contextmanager
def _changing(data: Path | None, config: Path | None) -> Iterator[tuple[Registry, Settings, Record]]:
    """Open the registry for a block that changes webhooks.

    Raises:
        click.ClickException: that fails.
    """
    try:
        with audited_registry(data, config, alone=True) as opened:
            yield opened
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _file(text: str | None) -> str:
    return str(Path(text).expanduser().absolute()) if text else ""


@webhook.command()
@click.argument("name")
@click.argument("url")
@click.option(
    "--repository", "patterns", multiple=True, metavar="PATTERN",
    help="Send only events of REPOSITORY[:TAG]; * matches anything. Repeatable.  [default: *]",
)  # fmt: skip
@click.option(
    "--action", "actions", type=click.Choice([*map(str, Action)]), multiple=True,
    help="Send only these events. Repeatable.  [default: all]",
)  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice([*map(str, Format)]), default="cloudevents", show_default=True,
    help="Send events as CloudEvents, or in the envelope of the reference registry.",
)  # fmt: skip
@click.option("--secret-file", metavar="PATH", help="Sign with the secret in PATH.")
@click.option("--authorization-file", metavar="PATH", help="Send the Authorization header in PATH.")
@click.option("--ca", metavar="PATH", help="Trust the certificate authorities in PATH, in PEM.")
@settings_options
def add(
    name: str, url: str, data: Path | None, config: Path | None, *, patterns: tuple[str, ...],
    actions: tuple[str, ...], form: str, **files: str | None,
) -> None:  # fmt: skip
    """Add the webhook NAME, which gets what happens from now on at URL.

    Safe while the registry is serving. Each instance that may deliver needs the files at the same paths; they
    are read again when they change.
    """
    secret, authorization, ca = (_file(files[key]) for key in ("secret_file", "authorization_file", "ca"))
    chosen = patterns or ("*",), actions or (*map(str, Action),)
    row = WebhookRow(name, url, form, *chosen, secret, authorization, ca)
    try:
        with _changing(data, config) as (registry, settings, record):
            Sender(row).prepare()
            registry.webhooks.add(row)
            facts = {"url": redact(url), "format": form, "patterns": row.patterns, "actions": row.actions}
            record("webhook add", name=name, **facts)
            mark(settings)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    echo(f"Added the webhook {name}.")
    if not row.secret_file:
        echo("Warning: without --secret-file, receivers cannot know who sends the events.", err=True)
    echo(f"Try it:  dualreg webhook test {name}")


@webhook.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only print what would be forgotten.")
@settings_options
def remove(name: str, data: Path | None, config: Path | None, *, dry_run: bool) -> None:
    """Remove the webhook NAME, and forget the events that it has not got."""
    with _changing(data, config) as (registry, _, record):
        if dry_run:
            backlog = registry.webhooks.backlog(name)
        else:
            backlog = registry.webhooks.remove(name)
            record("webhook remove", name=name, waiting=backlog.pending, dead=backlog.dead)
    echo(f"{'Would remove' if dry_run else 'Removed'} the webhook {name}.")
    echo(f"{counted(backlog.pending + backlog.dead, 'event')} that it has not got "
         f"{'would be' if dry_run else 'were'} forgotten.")  # fmt: skip


@webhook.command("list")
@json_option
@settings_options
def list_webhooks(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the webhooks: whether they work, what waits for them, and what was given up."""
    with prepared_registry(data, config, alone=True) as (registry, _):
        found = registry.webhooks.list()
    if as_json:
        echo_json([*map(document, found)])
        return
    table(_HEADINGS, [*map(_cells, found)])
    for each in found:
        if each.progress.error:
            echo(f"{each.webhook.name}: {each.progress.error}")
    echo(
        f"{counted(len(found), 'webhook')}."
        if found
        else "No webhooks. Add one:  dualreg webhook add NAME URL"
    )


def document(each: ListedWebhook) -> Mapping[str, object]:
    """Return a webhook for programs: its URL without what may be a secret."""
    row, state, backlog = each.webhook, each.progress, each.backlog
    return {
        "name": row.name,
        "url": redact(row.url),
        "format": row.format,
        "patterns": row.patterns,
        "actions": row.actions,
        "secret_file": row.secret_file,
        "authorization_file": row.authorization_file,
        "ca": row.ca,
        "added_at": row.added_at,
        "waiting": backlog.pending,
        "dead": backlog.dead,
        "unread": backlog.unread,
        "oldest": backlog.oldest,
        "delivered": state.delivered,
        "failed": state.failed,
        "given_up": state.given_up,
        "failing_since": state.failing_since,
        "next_attempt": state.due_at,
        "last_attempt": state.attempted_at,
        "last_delivery": state.delivered_at,
        "error": state.error,
    }


def _cells(each: ListedWebhook) -> tuple[str, ...]:
    row, state, backlog = each.webhook, each.progress, each.backlog
    health = f"failing since {minute(state.failing_since)}" if state.failing_since else "working"
    health = health if state.attempted_at else "not used yet"
    what = f"{'+'.join(row.actions)} of {' '.join(row.patterns)}"
    last = minute(state.delivered_at) if state.delivered_at else "-"
    counts = (str(backlog.pending + backlog.unread), str(backlog.dead))
    return (row.name, redact(row.url), what, health, *counts, last)


@webhook.command()
@click.argument("name")
@json_option
@settings_options
def test(name: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Send a ping to the webhook NAME, and print the answer.

    Exit status: 0 if the receiver takes it, 1 otherwise.
    """
    try:
        with prepared_registry(data, config, alone=True) as (registry, settings):
            row = registry.webhooks.find(name)
            ping = ping_document(row.format, settings.public_url, f"ping-{uuid4()}", registry.now())
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    attempt = Sender(row, parse_networks(settings.webhook_networks)).send(ping)
    if as_json:
        echo_json(_attempt(attempt))
    elif attempt.status is not None:
        echo(f"{attempt.status} after {attempt.seconds:.2f} s{f': {attempt.body}' if attempt.body else ''}")
    if attempt.failure:
        if not as_json:
            echo(attempt.failure.reason, err=True)
        raise SystemExit(1)


def _attempt(attempt: Attempt) -> Mapping[str, object]:
    return {
        "delivered": attempt.failure is None,
        "status": attempt.status,
        "seconds": round(attempt.seconds, 3),
        "error": attempt.failure.reason if attempt.failure else "",
        "body": attempt.body,
    }


@webhook.command()
@click.argument("name")
@click.option("--dead", is_flag=True, help="List the events that were given up.")
@click.option("--limit", type=click.IntRange(1), help="List no more than so many.")
@json_option
@settings_options
def events(
    name: str, data: Path | None, config: Path | None, *, dead: bool, limit: int | None, as_json: bool
) -> None:
    """List the events that the webhook NAME has not got, in order.

    With --json, each event is one line.
    """
    columns = Columns("ID", "AT", "ACTION", "TAG", "GAVE UP" if dead else "NEXT ATTEMPT", "ERROR")
    try:
        with prepared_registry(data, config, alone=True) as (registry, _):
            found = islice(registry.webhooks.events(name, dead=dead), limit)
            pages = iter(lambda: [*islice(found, _PAGE)], [])
            print_pages(pages, columns, _event_cells, _event, as_json=as_json)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _event_cells(each: QueuedEvent) -> tuple[str, ...]:
    event, at = each.event, each.dead_at or each.due_at
    name = f"{event.repository}:{event.tag}"
    action = str(action_of(event))
    return (str(event.id), second(event.at), action, name, second(at) if at else "-", each.error or "-")


def _event(each: QueuedEvent) -> Mapping[str, object]:
    event = each.event
    return {
        "id": event.id,
        "at": event.at,
        "action": action_of(event),
        "repository": event.repository,
        "tag": event.tag,
        "digest": event.new,
        "previous_digest": event.old,
        "next_attempt": each.due_at,
        "given_up_at": each.dead_at,
        "error": each.error,
    }


@webhook.command()
@click.argument("name")
@click.argument("ids", nargs=-1, type=click.IntRange(1, 2**63 - 1), metavar="[ID]...")
@click.option(
    "--since", metavar="TIME",
    help="Send everything again that happened since then, such as 2026-01-31T12:00Z.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only print how many events would be sent.")
@json_option
@settings_options
def replay(
    name: str, ids: tuple[int, ...], data: Path | None, config: Path | None, *,
    since: str | None, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Send the events ID to the webhook NAME again; by default, all that were given up.

    Events have the same id as before, by which receivers recognize those that they have.
    """
    if ids and since:
        raise click.UsageError("give events or --since, not both")
    with _changing(data, config) as (registry, settings, record):
        at = parse_time(since) if since else None
        count = registry.webhooks.replay(name, ids=ids, since=at, dry_run=dry_run)
        if not dry_run:
            facts = {"events": count, "ids": ids or None, "since": at.isoformat() if at else None}
            record("webhook replay", name=name, **facts)
            mark(settings)
    if as_json:
        echo_json({"webhook": name, "events": count, "dry_run": dry_run})
    else:
        echo(f"{counted(count, 'event')} {'would be' if dry_run else 'will be'} sent again.")


@webhook.command()
@click.argument("name")
@settings_options
def retry(name: str, data: Path | None, config: Path | None) -> None:
    """Send what waits for the webhook NAME now, not at the next attempt."""
    with _changing(data, config) as (registry, settings, record):
        count = registry.webhooks.hasten(name)
        record("webhook retry", name=name, events=count)
        mark(settings)
    echo(f"{counted(count, 'event')} will be sent now.")


@webhook.command()
@click.option("--parent", type=int, hidden=True, help="End with the process of this ID.")
@settings_options
def deliver(data: Path | None, config: Path | None, *, parent: int | None) -> None:
    """Deliver events while there are webhooks, as the server does beside itself.

    Of several such processes, on any machines, one delivers; another one takes over when it ends.
    """
    deliver_all(data, config, parent)
