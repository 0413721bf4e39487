"""Webhooks: receivers that are told of each push and deletion of a tag, as operators add them.

What is sent to them, and when, is in ``registry.outbox``.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.leading import Duty, is_held
from dualreg.catalog.moves import HistoryRow
from dualreg.catalog.outbox import Backlog, EventPlace, QueuedEvent
from dualreg.catalog.webhooks import WebhookRow, WebhookState
from dualreg.patterns import matches
from dualreg.registry.retention import parse_patterns

#: Names are labels of metrics, and parts of messages.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
#: Characters of the longest URL, and the most patterns.
_LONGEST_URL, _MOST_PATTERNS = 2000, 100
#: Events that are read at a time.
_PAGE = 500
#: Up to which number events are counted, of each kind.
COUNTED = 10_000
#: How long the oldest event has waited when it is said that no process delivers: one may be about to start.
_GRACE = timedelta(seconds=10)
_NOBODY = "no server delivers; run `dualreg serve`, or `dualreg webhook deliver` beside another gunicorn"


class Format(StrEnum):
    """The documents that receivers can read."""

    CLOUDEVENTS = "cloudevents"
    #: The envelope of the reference registry.
    DOCKER = "docker"


class Action(StrEnum):
    """What happens to a tag."""

    PUSH = "push"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class ListedWebhook:
    """A webhook, how far it is, and what it has not got.

    Attributes:
        backlog: Of each kind, ``COUNTED`` means as many or more.
        stopped: Why nothing is delivered of what waits; empty: it is, or nothing waits.
    """

    webhook: WebhookRow
    progress: WebhookState
    backlog: Backlog
    stopped: str = ""

    @property
    def waiting(self) -> int:
        """How many events wait, or were not looked at yet; ``COUNTED`` means as many or more."""
        return min(self.backlog.pending + self.backlog.unread, COUNTED)


def action_of(event: HistoryRow) -> Action:
    """Return what happened."""
    return Action.PUSH if event.new else Action.DELETE


def wants(webhook: WebhookRow, event: HistoryRow) -> bool:
    """Return whether an event is for a webhook."""
    if action_of(event) not in webhook.actions:
        return False
    patterns = map(parse_patterns, webhook.patterns)
    return any(matches(names, event.repository) and matches(tags, event.tag) for names, tags in patterns)


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Manages webhooks, and what they have not got."""

    catalog: Catalog

    def list(self, name: str | None = None) -> Sequence[ListedWebhook]:
        """Return all webhooks, by name.

        Args:
            name: Only the one of this name.

        Raises:
            ValueError: there is none of that name.
        """
        with self.catalog.read() as tx:
            rows = tx.webhooks.list() if name is None else [_found(tx, name)]
            states, backlogs = tx.webhooks.states(), tx.webhooks.outbox.backlogs(COUNTED, name)
            old = tx.now - _GRACE
        waiting = {name for name, each in backlogs.items() if each.oldest and each.oldest <= old}
        stopped = _NOBODY if waiting and not is_held(self.catalog, Duty.WEBHOOKS) else ""
        return [
            ListedWebhook(
                each,
                states.get(each.name, WebhookState(each.name, 0)),
                backlogs.get(each.name, Backlog()),
                stopped if each.name in waiting else "",
            )
            for each in rows
        ]

    def find(self, name: str) -> WebhookRow:
        """Return a webhook.

        Raises:
            ValueError: there is none of that name.
        """
        with self.catalog.read() as tx:
            return _found(tx, name)

    def add(self, webhook: WebhookRow) -> None:
        """Add a webhook, which gets what happens from now on.

        Raises:
            ValueError: there is one of that name, or a part of it is invalid.
        """
        _check(webhook)
        with self.catalog.begin() as tx:
            if not tx.webhooks.add(webhook):
                raise ValueError(
                    f"there is a webhook {webhook.name}; remove it first, or choose another name"
                )

    def backlog(self, name: str) -> Backlog:
        """Return what a webhook has not got; of each kind, ``COUNTED`` means as many or more.

        Raises:
            ValueError: there is none of that name.
        """
        with self.catalog.read() as tx:
            _found(tx, name)
            return tx.webhooks.outbox.backlogs(COUNTED, name).get(name, Backlog())

    def remove(self, name: str) -> Backlog:
        """Remove a webhook; return what it has not got, which is forgotten.

        Raises:
            ValueError: there is none of that name.
        """
        backlog, gone = self.backlog(name), _PAGE
        while gone == _PAGE:  # few at a time, as pushes on SQLite wait for the transaction
            with self.catalog.begin(durable=False) as tx:
                tx.webhooks.lock(name)
                gone = tx.webhooks.outbox.drop(name, _PAGE)
        with self.catalog.begin() as tx:
            tx.webhooks.remove(name)
        return backlog

    def events(
        self, name: str, *, dead: bool = False, after: EventPlace | None = None, limit: int = _PAGE
    ) -> Sequence[QueuedEvent]:
        """Return a page of the events that wait for a webhook, in order.

        Args:
            dead: Those that were given up, in that order.
            after: The last event of the page before.

        Raises:
            ValueError: there is no webhook of that name.
        """
        with self.catalog.read() as tx:
            _found(tx, name)
            return tx.webhooks.outbox.list(name, dead=dead, after=after, limit=limit)

    def hasten(self, name: str) -> int:
        """Have all that waits for a webhook be sent now, however often that has failed; return how much does.

        ``COUNTED`` means as many or more.

        Raises:
            ValueError: there is no webhook of that name.
        """
        waiting = self.backlog(name).pending  # before: pushes on SQLite do not wait while it counts
        self._hasten(name)
        return waiting

    def _hasten(self, name: str) -> None:
        with self.catalog.begin() as tx:
            _found(tx, name)
            tx.webhooks.lock(name)
            tx.webhooks.change(name, due_at=None)
            tx.webhooks.outbox.hasten(name)

    def replay(
        self,
        name: str,
        *,
        ids: Collection[int] = (),
        since: datetime | None = None,
        dry_run: bool = False,
    ) -> int:
        """Send events again; return how many.

        Those with numbers in *ids*; else all since an instant, whether they were delivered or not, of those
        that the history still has; else all that were given up.

        Raises:
            ValueError: there is no webhook of that name, or an event of *ids* is unknown.
        """
        with self.catalog.read() as tx:
            webhook, state = _found(tx, name), tx.webhooks.states().get(name)
        count = 0
        for events in self._chosen(webhook, state.position if state else 0, ids, since):
            count += len(events)
            if events and not dry_run:
                self._queue(name, events)
        if not dry_run:
            self._hasten(name)
        return count

    def _queue(self, name: str, events: Collection[HistoryRow]) -> None:
        """Have events wait: few at a time, as pushes on SQLite wait for the transaction."""
        with self.catalog.begin(durable=False) as tx:  # ``_hasten`` is durable, and so is what was before
            if tx.webhooks.begin(name) is None:
                raise _unknown(name)
            tx.webhooks.outbox.queue(name, events)

    def _chosen(
        self, webhook: WebhookRow, position: int, ids: Collection[int], since: datetime | None
    ) -> Iterator[Sequence[HistoryRow]]:
        """Yield the events that are replayed, some at a time.

        Raises:
            ValueError: one of *ids* is unknown.
        """
        after, last = 0, None
        if ids:
            with self.catalog.read() as tx:
                found = tx.webhooks.outbox.find(webhook.name, ids)
            if missing := {*ids} - {event.id for event in found}:
                raise ValueError(f"no event {min(missing)} is known; nothing is sent again")
            yield found
        while not ids:
            with self.catalog.read() as tx:
                outbox = tx.webhooks.outbox
                if since:
                    page = outbox.moves(after, position, _PAGE, since=since)
                else:
                    dead = outbox.list(webhook.name, dead=True, after=last, limit=_PAGE)
                    page = [each.event for each in dead]
                    last = EventPlace(dead[-1].dead_at, dead[-1].event.id) if dead else None
            yield [event for event in page if wants(webhook, event)] if since else page
            if len(page) < _PAGE:
                return
            after = page[-1].id

    def trim(self, keep: timedelta | None) -> Iterator[int]:
        """Forget events that were given up longer ago than *keep*, some at a time; yields how many.

        None: keep them forever.
        """
        with self.catalog.read() as tx:
            names = [each.name for each in tx.webhooks.list()] if keep is not None else []
        for name in names:
            gone = _PAGE
            while keep is not None and gone == _PAGE:
                with self.catalog.begin() as tx:
                    tx.webhooks.lock(name)  # what is replayed meanwhile waits again
                    gone = tx.webhooks.outbox.trim(name, tx.now - keep, _PAGE)
                yield gone


def _found(tx: Transaction, name: str) -> WebhookRow:
    if webhook := tx.webhooks.find(name):
        return webhook
    raise _unknown(name)


def _unknown(name: str) -> ValueError:
    return ValueError(f"no webhook {name}; `dualreg webhook list` lists them")


def _check(webhook: WebhookRow) -> None:
    """Check the parts of a webhook.

    Raises:
        ValueError: one is invalid.
    """
    if _NAME.fullmatch(webhook.name) is None:
        raise ValueError(f"invalid name {webhook.name!r}; expected lower-case letters, digits and -")
    _check_url(webhook.url)
    for pattern in webhook.patterns:
        parse_patterns(pattern)
    if not 1 <= len(webhook.patterns) <= _MOST_PATTERNS or not webhook.actions:
        raise ValueError(f"a webhook needs an action, and 1 to {_MOST_PATTERNS} patterns")
    for kind, given in ((Format, (webhook.format,)), (Action, webhook.actions)):
        for each in given:
            if each not in [*kind]:
                raise ValueError(f"unknown {kind.__name__.lower()} {each!r}; expected {' or '.join(kind)}")


def _check_url(url: str) -> None:
    if len(url) > _LONGEST_URL:
        raise ValueError(f"the URL is longer than {_LONGEST_URL} characters")
    try:
        parts = urlsplit(url)
        is_complete = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise ValueError("invalid URL") from error
    if not is_complete or not url.isascii() or not url.isprintable() or any(each in url for each in " \\"):
        raise ValueError("invalid URL; expected http:// or https://, a host, and a path")
    if "@" in parts.netloc:
        raise ValueError(
            "the URL contains a user name or password; put it into a file of --authorization-file"
        )
