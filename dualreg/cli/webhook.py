"""``dualreg webhook``: receivers of events, and what they have not got."""

from pathlib import Path

import click

from dualreg.catalog.webhooks import WebhookRow
from dualreg.cli.administration import administration, chosen_server
from dualreg.cli.delivering import deliver_all
from dualreg.cli.options import json_option, parse_time, settings_options
from dualreg.cli.output import (
    Columns,
    capped,
    counted_upto,
    echo,
    echo_json,
    members,
    minute,
    records,
    second,
    table,
)
from dualreg.cli.paging import listed, print_pages
from dualreg.messages import counted
from dualreg.operations.webhooks import AddedWebhook, ShownEvent, ShownWebhook
from dualreg.registry.webhooks import COUNTED, Action, Format

#: Options of ``add`` that name files.
_FILES = ("secret_file", "authorization_file", "ca")
_HEADINGS = ("NAME", "URL", "EVENTS", "STATE", "WAITING", "DEAD", "LAST DELIVERY")


@click.group()
def webhook() -> None:
    """Manage webhooks.

    A webhook gets an event for each push and deletion of a tag, by an HTTP POST: at least once, and in order
    for each repository. See docs/webhooks.md.
    """


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
@json_option
@settings_options
def add(
    name: str, url: str, data: Path | None, config: Path | None, *, patterns: tuple[str, ...],
    actions: tuple[str, ...], as_json: bool, **others: str | None,
) -> None:  # fmt: skip
    """Add the webhook NAME, which gets what happens from now on at URL.

    Safe while the registry is serving. Each instance that may deliver needs the files at the same paths; they
    are read again when they change. On a server (--server), no files can be named.
    """
    form = Format(others.pop("form") or "")
    chosen = patterns or ("*",), (*map(Action, actions or Action),)
    files = {option: _absolute(path) for option, path in others.items() if path}
    with administration(data, config, changes=True, alone=True) as admin:
        if files:
            _require_here(next(iter(files)))
            secret, authorization, ca = (files.get(option, "") for option in _FILES)
            row = WebhookRow(name, url, form, *chosen, secret, authorization, ca)
            added = admin.webhooks.add_row(row)
        else:
            added = admin.webhooks.add(name, url, *chosen, form)
    if as_json:
        echo_json(added)
    else:
        _print_added(added)


def _require_here(option: str) -> None:
    """Refuse an option that names a file, if that would be on another machine.

    Raises:
        ValueError: the command runs on a server.
    """
    if chosen_server().url:
        flag = option.replace("_", "-")
        raise ValueError(f"--{flag} names a file of the machine of the registry; add the webhook there")


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _print_added(added: AddedWebhook) -> None:
    echo(f"Added the webhook {added.webhook}.")
    if not added.signed:
        echo("Warning: without --secret-file, receivers cannot know who sends the events.", err=True)
    echo(f"Try it:  dualreg webhook test {added.webhook}")


@webhook.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only print what would be forgotten.")
@json_option
@settings_options
def remove(name: str, data: Path | None, config: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Remove the webhook NAME, and forget the events that it has not got."""
    with administration(data, config, changes=True, alone=True) as admin:
        removed = admin.webhooks.remove(name, dry_run=dry_run)
    if as_json:
        echo_json(removed)
        return
    echo(f"{'Would remove' if dry_run else 'Removed'} the webhook {name}.")
    echo(f"{_events(removed.waiting + removed.dead)} that it has not got "
         f"{'would be' if dry_run else 'were'} forgotten.")  # fmt: skip


def _events(count: int) -> str:
    return counted_upto(count, COUNTED, "event")


@webhook.command("list")
@click.argument("name", required=False)
@json_option
@settings_options
def list_webhooks(name: str | None, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """List the webhooks, or only NAME: whether they work, what waits for them, and what was given up."""
    with administration(data, config, alone=True) as admin:
        found = admin.webhooks.list(name)
    if as_json:
        records(found)
        return
    table(_HEADINGS, [*map(_cells, found)])
    for each in found:
        if each.error:
            echo(f"{each.name}: {each.error}")
    for line in dict.fromkeys(each.stopped for each in found if each.stopped):
        echo(f"Events wait: {line}.")
    echo(
        f"{counted(len(found), 'webhook')}."
        if found
        else "No webhooks. Add one:  dualreg webhook add NAME URL"
    )


def _cells(each: ShownWebhook) -> tuple[str, ...]:
    health = f"failing since {minute(each.failing_since)}" if each.failing_since else "working"
    health = health if each.last_attempt else "not used yet"
    what = f"{'+'.join(each.actions)} of {' '.join(each.patterns)}"
    last = minute(each.last_delivery) if each.last_delivery else "-"
    waiting = min(each.waiting + each.unread, COUNTED)
    counts = (capped(waiting, COUNTED), capped(each.dead, COUNTED))
    return (each.name, each.url, what, health, *counts, last)


@webhook.command()
@click.argument("name")
@json_option
@settings_options
def test(name: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Send a ping to the webhook NAME, and print the answer.

    Exit status: 0 if the receiver takes it, 1 otherwise.
    """
    with administration(data, config, alone=True) as admin:
        answer = admin.webhooks.test(name)
    if as_json:
        echo_json(answer)
    elif answer.status is not None:
        echo(f"{answer.status} after {answer.seconds:.2f} s{f': {answer.body}' if answer.body else ''}")
    if not answer.delivered:
        if not as_json:
            echo(answer.error, err=True)
        raise SystemExit(1)


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
    with administration(data, config, alone=True) as admin:
        pages = listed(lambda n, after: admin.webhooks.events(name, dead=dead, n=n, after=after), limit)
        print_pages(pages, columns, _event_cells, members, as_json=as_json)


def _event_cells(each: ShownEvent) -> tuple[str, ...]:
    at = each.given_up_at or each.next_attempt
    what = (str(each.action), f"{each.repository}:{each.tag}")
    return (str(each.id), second(each.at), *what, second(at) if at else "-", each.error or "-")


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
    with administration(data, config, changes=True, alone=True) as admin:
        at = parse_time(since) if since else None
        replayed = admin.webhooks.replay(name, ids, at, dry_run=dry_run)
    if as_json:
        echo_json(replayed)
    else:
        count = counted(replayed.events, "event")
        echo(f"{count} {'would be' if dry_run else 'will be'} sent again.")


@webhook.command()
@click.argument("name")
@json_option
@settings_options
def retry(name: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Send what waits for the webhook NAME now, not at the next attempt."""
    with administration(data, config, changes=True, alone=True) as admin:
        retried = admin.webhooks.retry(name)
    if as_json:
        echo_json(retried)
    else:
        echo(f"{_events(retried.events)} will be sent now.")


@webhook.command()
@click.option("--parent", type=int, hidden=True, help="End with the process of this ID.")
@settings_options
def deliver(data: Path | None, config: Path | None, *, parent: int | None) -> None:
    """Deliver events while there are webhooks, as the server does beside itself.

    Of several such processes, on any machines, one delivers; another one takes over when it ends.
    """
    deliver_all(data, config, parent)
