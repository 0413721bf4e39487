"""Webhooks: receivers of events, and what they have not got."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from dualreg.catalog.outbox import EventPlace, QueuedEvent
from dualreg.catalog.webhooks import WebhookRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.operations.places import format_place, parse_place, parse_row_number
from dualreg.operations.session import Group, Listing, page_size
from dualreg.registry.webhooks import Action, Format, ListedWebhook, action_of
from dualreg.webhooks.documents import ping_document
from dualreg.webhooks.mark import mark
from dualreg.webhooks.sending import Sender, parse_networks
from dualreg.webhooks.showing import shown_url


@dataclass(frozen=True, slots=True)
class ShownWebhook:
    """A webhook, how far it is, and what it has not got. Of each kind, 10000 events mean as many or more.

    Attributes:
        url: Without its query, and without what may be a token in its path.
        secret_file, authorization_file, ca: Paths on the machine of the registry; empty: none.
        waiting: Events that wait.
        dead: Events that were given up.
        unread: Moves of tags that were not looked at for it yet.
        oldest: When the first event happened that waits.
        delivered: Events that it got.
        failed: Attempts that failed.
        given_up: Events that were ever given up.
        failing_since: When attempts began to fail; null: the last one did not.
        next_attempt: Nothing is sent before, as the receiver was down.
        last_attempt: When something was sent last.
        last_delivery: When it got something last.
        error: Why the last attempt failed; empty: it did not.
        stopped: Why nothing is delivered of what waits; empty: it is, or nothing waits.
    """

    name: str
    url: str
    format: str
    patterns: Sequence[str]
    actions: Sequence[str]
    secret_file: str
    authorization_file: str
    ca: str
    added_at: datetime | None
    waiting: int
    dead: int
    unread: int
    oldest: datetime | None
    delivered: int
    failed: int
    given_up: int
    failing_since: datetime | None
    next_attempt: datetime | None
    last_attempt: datetime | None
    last_delivery: datetime | None
    error: str
    stopped: str


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """An event that a webhook has not got.

    Attributes:
        id: Its number, which ``replay`` takes.
        at: When it happened.
        digest: What the tag was pushed with; null: the tag was deleted.
        previous_digest: What the tag pointed at before; null: there was no tag.
        next_attempt: When it is sent next, if it is the next one of its repository; null: it was given up.
        given_up_at: When it was given up; null: it waits.
        error: Why it was given up, or why the last attempt for its repository failed.
    """

    id: int
    at: datetime
    action: Action
    repository: RepositoryName
    tag: Tag
    digest: Digest | None
    previous_digest: Digest | None
    next_attempt: datetime | None
    given_up_at: datetime | None
    error: str


@dataclass(frozen=True, slots=True)
class AddedWebhook:
    """A webhook that was added.

    Attributes:
        url: As in the list.
        signed: Whether its events are signed.
    """

    webhook: str
    url: str
    format: str
    patterns: Sequence[str]
    actions: Sequence[str]
    signed: bool


@dataclass(frozen=True, slots=True)
class RemovedWebhook:
    """A webhook that was removed, and events that it has not got. Of each kind, 10000 mean as many or more.

    Attributes:
        waiting, dead: Events that waited, and that had been given up: they are forgotten.
        dry_run: Whether it was not removed.
    """

    webhook: str
    waiting: int
    dead: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class ReplayedEvents:
    """How many events are sent to a webhook again.

    Attributes:
        dry_run: Whether they are not.
    """

    webhook: str
    events: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class RetriedEvents:
    """How many events are sent to a webhook now; 10000 mean as many or more."""

    webhook: str
    events: int


@dataclass(frozen=True, slots=True)
class AnsweredPing:
    """What a receiver answered to a ping.

    Attributes:
        status: Its status; null: there was no answer.
        seconds: How long that took.
        error: Why it was not delivered; empty: it was.
        body: The beginning of the answer.
    """

    delivered: bool
    status: int | None
    seconds: float
    error: str
    body: str


@dataclass(frozen=True)
class WebhookChanges(Group):
    """Webhooks."""

    def list(self, name: str | None = None) -> Sequence[ShownWebhook]:
        """List the webhooks: whether they work, what waits for them, and what was given up.

        Args:
            name: Only the webhook of this name.

        Raises:
            ValueError: there is none of that name.
        """
        return [*map(_webhook, self.session.registry.webhooks.list(name))]

    def add(
        self,
        name: str,
        url: str,
        patterns: Sequence[str] = ("*",),
        actions: Sequence[Action] = (Action.PUSH, Action.DELETE),
        format: Format = Format.CLOUDEVENTS,
    ) -> AddedWebhook:
        """Add a webhook, which gets an event for each push and deletion of a tag from now on.

        Its events are not signed: secrets are in files of the machine, and `dualreg webhook add` takes their
        paths there. Receivers have public addresses, or those of the setting webhook_networks.

        Args:
            name: Of lower-case letters, digits and -.
            url: Where events are sent, http or https. Lists show it without its query.
            patterns: Of REPOSITORY or REPOSITORY:TAG, in which * matches anything: what is sent.
            actions: What is sent of that.
            format: CloudEvents, or the envelope of the reference registry.

        Raises:
            ValueError: there is one of that name, or a part of it is invalid.
        """
        return self.add_row(WebhookRow(name, url, format, (*patterns,), (*map(str, actions),)))

    def add_row(self, row: WebhookRow) -> AddedWebhook:
        """Add a webhook, which may name files of this machine: no operation, as they are read and sent.

        Raises:
            ValueError: as ``add``, or a file cannot be read.
        """
        try:
            Sender(row).prepare()
        except OSError as error:
            raise ValueError(str(error)) from error
        self.session.registry.webhooks.add(row)
        url = shown_url(row.url)
        facts = {"url": url, "format": row.format, "patterns": row.patterns, "actions": row.actions}
        self.session.record("webhook add", name=row.name, **facts)
        mark(self.session.settings.data)
        signed = bool(row.secret_file)
        return AddedWebhook(row.name, url, row.format, row.patterns, row.actions, signed)

    def remove(self, name: str, *, dry_run: bool = False) -> RemovedWebhook:
        """Remove a webhook, and forget the events that it has not got.

        Args:
            dry_run: Only return what would be forgotten.

        Raises:
            ValueError: there is none of that name.
        """
        webhooks = self.session.registry.webhooks
        backlog = webhooks.backlog(name) if dry_run else webhooks.remove(name)
        if not dry_run:
            self.session.record("webhook remove", name=name, waiting=backlog.pending, dead=backlog.dead)
        return RemovedWebhook(name, backlog.pending, backlog.dead, dry_run)

    def test(self, name: str) -> AnsweredPing:
        """Send a ping to a webhook, and return the answer.

        It goes where events go, from the same machine, and nowhere else.

        Raises:
            ValueError: there is none of that name.
        """
        registry, settings = self.session.registry, self.session.settings
        row = registry.webhooks.find(name)
        ping = ping_document(row.format, settings.public_url, f"ping-{uuid4()}", registry.now())
        attempt = Sender(row, parse_networks(settings.webhook_networks)).send(ping)
        error = attempt.failure.reason if attempt.failure else ""
        return AnsweredPing(not error, attempt.status, round(attempt.seconds, 3), error, attempt.body)

    def events(
        self, name: str, *, dead: bool = False, n: int = 100, after: str | None = None
    ) -> Listing[ShownEvent]:
        """List the events that a webhook has not got, in order.

        Args:
            dead: List those that were given up, in the order in which they were.
            n: The length of the page.
            after: Where the page before ended.

        Raises:
            ValueError: there is no webhook of that name.
        """
        size, place = page_size(n), _place(after, dead=dead)
        found = self.session.registry.webhooks.events(name, dead=dead, after=place, limit=size + 1)
        rows = found[:size]
        return Listing([*map(_event, rows)], _text(rows[-1]) if len(found) > size else None)

    def replay(
        self,
        name: str,
        ids: Sequence[int] = (),
        since: datetime | None = None,
        *,
        dry_run: bool = False,
    ) -> ReplayedEvents:
        """Send events to a webhook again; by default, all that were given up.

        Events have the same id as before, by which receivers recognize those that they have.

        Args:
            ids: Send these events.
            since: Send everything that happened since then and that the webhook wants.
            dry_run: Only return how many events would be sent.

        Raises:
            ValueError: there is no such webhook or event, or both *ids* and *since* are given.
        """
        if ids and since:
            raise ValueError("give either ids or since")
        count = self.session.registry.webhooks.replay(name, ids=ids, since=since, dry_run=dry_run)
        if not dry_run:
            facts = {"ids": [*ids] or None, "since": since.isoformat() if since else None}
            self.session.record("webhook replay", name=name, events=count, **facts)
            mark(self.session.settings.data)
        return ReplayedEvents(name, count, dry_run)

    def retry(self, name: str) -> RetriedEvents:
        """Send what waits for a webhook now, not at the next attempt.

        Raises:
            ValueError: there is none of that name.
        """
        count = self.session.registry.webhooks.hasten(name)
        self.session.record("webhook retry", name=name, events=count)
        mark(self.session.settings.data)
        return RetriedEvents(name, count)


def _webhook(each: ListedWebhook) -> ShownWebhook:
    row, state, backlog = each.webhook, each.progress, each.backlog
    return ShownWebhook(
        name=row.name,
        url=shown_url(row.url),
        format=row.format,
        patterns=row.patterns,
        actions=row.actions,
        secret_file=row.secret_file,
        authorization_file=row.authorization_file,
        ca=row.ca,
        added_at=row.added_at,
        waiting=backlog.pending,
        dead=backlog.dead,
        unread=backlog.unread,
        oldest=backlog.oldest,
        delivered=state.delivered,
        failed=state.failed,
        given_up=state.given_up,
        failing_since=state.failing_since,
        next_attempt=state.due_at,
        last_attempt=state.attempted_at,
        last_delivery=state.delivered_at,
        error=state.error,
        stopped=each.stopped,
    )


def _event(each: QueuedEvent) -> ShownEvent:
    event = each.event
    return ShownEvent(
        id=event.id,
        at=event.at,
        action=action_of(event),
        repository=event.repository,
        tag=Tag(event.tag),
        digest=event.new,
        previous_digest=event.old,
        next_attempt=each.due_at,
        given_up_at=each.dead_at,
        error=each.error,
    )


def _text(each: QueuedEvent) -> str:
    """Return the place of an event, as ``_place`` takes it."""
    return format_place(each.dead_at, each.event.id) if each.dead_at else f"{each.event.id}"


def _place(text: str | None, *, dead: bool) -> EventPlace | None:
    """Return the place after which a page starts.

    Raises:
        PageInvalid: it is malformed.
    """
    if not text:
        return None
    if not dead:
        return EventPlace(None, parse_row_number(text))
    found = parse_place(text, parse_row_number)
    return found and EventPlace(*found)
