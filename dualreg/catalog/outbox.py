"""SQL of the outbox: moves of tags that webhooks have not got yet.

The history of tags is where events come from: their rows are written in the transactions that move tags.
One process reads them, and copies each row for every webhook that wants it (``queue``). These copies wait in
a queue for each repository, are deleted when the webhook has them, and stay if they are given up.

On PostgreSQL, a row may appear after one with a higher number. ``last`` and ``writers`` find out up to which
number no row can appear any more: transactions that may add one hold a lock on the table from before they
take a number until they are committed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    delete,
    exists,
    func,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute

from dualreg.catalog.dialects import batches, insert
from dualreg.catalog.moves import HistoryRow
from dualreg.catalog.tables import TagHistory, WebhookEvents, WebhookQueues, WebhookStates
from dualreg.image.names import RepositoryName

#: Source: PostgreSQL, "Table-Level Locks": ROW EXCLUSIVE is the lock of INSERT; and "pg_locks".
_WRITERS = text(
    "SELECT DISTINCT virtualtransaction FROM pg_locks WHERE locktype = 'relation' "
    "AND relation = 'tag_history'::regclass AND mode = 'RowExclusiveLock' "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
#: How events are listed. Those that wait are by number: PostgreSQL reads them from the index only by both.
_IN_ORDER = (WebhookEvents.dead_at, WebhookEvents.id)


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A repository of which events wait for a webhook.

    Attributes:
        attempts: Those that have failed since the last success; the first of them *failing_since*.
    """

    repository: RepositoryName
    attempts: int
    failing_since: datetime | None


class QueuedEvent(NamedTuple):
    """An event that waits for a webhook, or was given up.

    Attributes:
        due_at: When it is sent next, if it is the next one of its repository; None: it was given up.
        dead_at: When it was given up; None: it waits.
        error: Why it was given up, or why the last attempt of its repository failed.
    """

    webhook: str
    event: HistoryRow
    due_at: datetime | None
    dead_at: datetime | None
    error: str


class EventPlace(NamedTuple):
    """Where an event is in a list: after those that were given up before it, and have lower numbers.

    Attributes:
        dead_at: When it was given up; None: it waits.
    """

    dead_at: datetime | None
    id: int


class Backlog(NamedTuple):
    """What a webhook has not got.

    Attributes:
        pending, dead: Events that wait, and that were given up.
        unread: Moves of tags that were not looked at for it yet.
        oldest: When the first of them happened that was not given up; None: there is none.
    """

    pending: int = 0
    dead: int = 0
    unread: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class OutboxQueries:
    """Events that webhooks have not got yet."""

    connection: Connection
    now: datetime

    def last(self) -> int:
        """Return the number of the last move of a tag that is visible; 0: there is none."""
        return int(self.connection.scalar(select(func.max(TagHistory.id))) or 0)

    def writers(self) -> frozenset[str]:
        """Return the transactions that may have added moves which are not visible; none on SQLite."""
        if self.connection.dialect.name != "postgresql":
            return frozenset()
        return frozenset(self.connection.scalars(_WRITERS))

    def moves(
        self, after: int, upto: int, limit: int, *, since: datetime | None = None
    ) -> Sequence[HistoryRow]:
        """Return up to *limit* moves of tags, by number: those at *since* or later, if it is given."""
        query = select(TagHistory.__table__).where(TagHistory.id > after, TagHistory.id <= upto)
        query = query.where(TagHistory.at >= since) if since else query
        return [*map(HistoryRow.of, self.connection.execute(query.order_by(TagHistory.id).limit(limit)))]

    def queue(self, webhook: str, events: Collection[HistoryRow]) -> None:
        """Have events wait for a webhook, which is locked; those that were given up wait again."""
        for batch in batches(events, 500):
            rows = [event._asdict() | {"webhook": webhook, "queued_at": self.now} for event in batch]
            row = insert(self.connection, WebhookEvents)
            again = {"queued_at": row.excluded.queued_at, "dead_at": None, "error": ""}
            keys = [WebhookEvents.webhook, WebhookEvents.id]
            self.connection.execute(row.on_conflict_do_update(index_elements=keys, set_=again), rows)
            names = {event.repository for event in batch}
            queues = [{"webhook": webhook, "repository": name, "due_at": self.now} for name in sorted(names)]
            self.connection.execute(insert(self.connection, WebhookQueues).on_conflict_do_nothing(), queues)

    def due(self, webhook: str, busy: Collection[str], limit: int) -> Sequence[QueueRow]:
        """Return up to *limit* queues of a webhook that are due, the one that has waited longest first.

        Args:
            busy: Repositories of which events are being sent.
        """
        query = select(WebhookQueues.repository, WebhookQueues.attempts, WebhookQueues.failing_since)
        query = query.where(WebhookQueues.webhook == webhook, WebhookQueues.due_at <= self.now)
        query = query.where(WebhookQueues.repository.not_in(busy)) if busy else query
        rows = self.connection.execute(query.order_by(WebhookQueues.due_at).limit(limit))
        return [QueueRow(RepositoryName(name), attempts, since) for name, attempts, since in rows]

    def pending(self, webhook: str, repository: RepositoryName, limit: int) -> Sequence[HistoryRow]:
        """Return up to *limit* events of a repository that wait for a webhook, in order."""
        query = _events().where(_waiting(webhook), WebhookEvents.repository == repository)
        query = query.order_by(*_IN_ORDER).limit(limit)
        return [*map(HistoryRow.of, self.connection.execute(query))]

    def forget(self, webhook: str, ids: Collection[int]) -> None:
        """Delete events, which a webhook has got."""
        for batch in batches(ids):
            gone = delete(WebhookEvents).where(WebhookEvents.webhook == webhook, WebhookEvents.id.in_(batch))
            self.connection.execute(gone)

    def end(self, webhook: str, repository: RepositoryName) -> None:
        """Note that the last attempt for a repository has succeeded: it is due again if more events wait."""
        own = _queue(webhook, repository)
        waits = exists().where(_waiting(webhook), WebhookEvents.repository == repository)
        self.connection.execute(delete(WebhookQueues).where(own, ~waits))
        again = {"due_at": self.now, "attempts": 0, "failing_since": None, "error": ""}
        self.connection.execute(update(WebhookQueues).where(own).values(again))

    def delay(
        self, webhook: str, repository: RepositoryName, due_at: datetime, since: datetime, error: str
    ) -> None:
        """Note that attempts for a repository fail *since*, and that the next one is due at *due_at*."""
        own = _queue(webhook, repository)
        values = {
            "due_at": due_at,
            "attempts": WebhookQueues.attempts + 1,
            "failing_since": since,
            "error": error,
        }
        self.connection.execute(update(WebhookQueues).where(own).values(values))

    def restart(self, webhook: str) -> None:
        """Note that attempts for a webhook which fail do so since now."""
        failing = (WebhookQueues.webhook == webhook) & WebhookQueues.failing_since.is_not(None)
        self.connection.execute(update(WebhookQueues).where(failing).values(failing_since=self.now))

    def give_up(self, webhook: str, repository: RepositoryName | None, before: datetime, error: str) -> int:
        """Give up what has waited for a webhook since *before* or earlier; return how many events.

        Args:
            repository: Only those of it; None: those of all.
        """
        old = _waiting(webhook) & (WebhookEvents.queued_at <= before)
        old = old if repository is None else old & (WebhookEvents.repository == repository)
        dead = update(WebhookEvents).where(old).values(dead_at=self.now, error=error)
        count = self.connection.execute(dead).rowcount
        waiting = select(WebhookEvents.repository).where(_waiting(webhook))
        left = WebhookQueues.repository.not_in(waiting) & (WebhookQueues.webhook == webhook)
        left = left if repository is None else left & (WebhookQueues.repository == repository)
        self.connection.execute(delete(WebhookQueues).where(left))
        return count

    def hasten(self, webhook: str) -> None:
        """Have everything that waits for a webhook be due now."""
        self.connection.execute(
            update(WebhookQueues).where(WebhookQueues.webhook == webhook).values(due_at=self.now)
        )

    def list(
        self, webhook: str, *, dead: bool, after: EventPlace | None = None, limit: int
    ) -> Sequence[QueuedEvent]:
        """Return up to *limit* events of a webhook: those that wait, by number.

        Args:
            dead: Those that were given up, in that order.
            after: The last event of the page before.
        """
        chosen = _given_up(webhook) if dead else _waiting(webhook)
        if after and after.dead_at:
            chosen &= tuple_(*_IN_ORDER) > tuple_(*after, types=[each.type for each in _IN_ORDER])
        elif after:
            chosen &= WebhookEvents.id > after.id
        of = (WebhookQueues.webhook == WebhookEvents.webhook) & (
            WebhookQueues.repository == WebhookEvents.repository
        )
        error = func.coalesce(func.nullif(WebhookEvents.error, ""), WebhookQueues.error, "")
        query = _events(WebhookQueues.due_at, WebhookEvents.dead_at, error)
        query = query.outerjoin(WebhookQueues, of).where(chosen).order_by(*_IN_ORDER).limit(limit)
        return [
            QueuedEvent(webhook, HistoryRow.of(row), None if dead_at else due_at, dead_at, reason)
            for *row, due_at, dead_at, reason in self.connection.execute(query)
        ]

    def find(self, webhook: str, ids: Collection[int]) -> Sequence[HistoryRow]:
        """Return events by their numbers, if the webhook has not got them, or the history has them."""
        found = dict[int, HistoryRow]()
        for batch in batches(ids):
            for query in (
                select(TagHistory.__table__).where(TagHistory.id.in_(batch)),
                _events().where(WebhookEvents.webhook == webhook, WebhookEvents.id.in_(batch)),
            ):
                found |= {row[0]: HistoryRow.of(row) for row in self.connection.execute(query)}
        return [found[each] for each in sorted(found)]

    def backlogs(self, limit: int | None, webhook: str | None = None) -> Mapping[str, Backlog]:
        """Return what each webhook has not got, by name, in one query.

        Args:
            limit: Up to which number events are counted, of each kind; None: all of them, however many.
            webhook: Only this one.
        """
        name, events, unread = WebhookStates.webhook, WebhookEvents, TagHistory.id > WebhookStates.position
        waits, given_up = _waiting(name), _given_up(name)
        query = select(
            name,
            _count(select(events.id).where(waits), _IN_ORDER, limit),
            _count(select(events.id).where(given_up), _IN_ORDER, limit),
            _count(select(TagHistory.id).where(unread), (TagHistory.id,), limit),
            _first(select(events.at).where(waits), _IN_ORDER),
            _first(select(TagHistory.at).where(unread), (TagHistory.id,)),
        )
        query = query if webhook is None else query.where(name == webhook)
        return {
            found: Backlog(pending, dead, unread, min(filter(None, firsts), default=None))
            for found, pending, dead, unread, *firsts in self.connection.execute(query)
        }

    def trim(self, webhook: str, before: datetime, limit: int) -> int:
        """Delete up to *limit* events that were given up at *before* or earlier; return how many."""
        own = WebhookEvents.webhook == webhook
        return self._delete(webhook, own & (WebhookEvents.dead_at <= before), limit)

    def drop(self, webhook: str, limit: int) -> int:
        """Delete up to *limit* events of a webhook that is to be removed; return how many."""
        return self._delete(webhook, WebhookEvents.webhook == webhook, limit)

    def _delete(self, webhook: str, chosen: ColumnElement[bool], limit: int) -> int:
        gone = [*self.connection.scalars(select(WebhookEvents.id).where(chosen).limit(limit))]
        self.forget(webhook, gone)
        return len(gone)


def _count(
    rows: Select[int], order: Collection[InstrumentedAttribute[Any]], limit: int | None
) -> ScalarSelect[int]:
    """Return the number of rows of each webhook, up to *limit*."""
    if limit is not None:  # in order: otherwise PostgreSQL would read the table until it has as many
        rows = rows.order_by(*order).limit(limit)
    return select(func.count()).select_from(rows.correlate(WebhookStates).subquery()).scalar_subquery()


def _first(times: Select[datetime], order: Collection[InstrumentedAttribute[Any]]) -> ScalarSelect[datetime]:
    """Return the first of the times of each webhook."""
    return times.order_by(*order).limit(1).correlate(WebhookStates).scalar_subquery()


def _waiting(webhook: str | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    return (WebhookEvents.webhook == webhook) & WebhookEvents.dead_at.is_(None)


def _given_up(webhook: str | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    return (WebhookEvents.webhook == webhook) & WebhookEvents.dead_at.is_not(None)


def _queue(webhook: str, repository: RepositoryName) -> ColumnElement[bool]:
    return (WebhookQueues.webhook == webhook) & (WebhookQueues.repository == repository)


def _events(*more: ColumnElement[Any] | InstrumentedAttribute[Any]) -> Select[*tuple[Any, ...]]:
    """Return the query of events as ``HistoryRow.of`` takes them, with *more* columns."""
    return select(*(getattr(WebhookEvents, each) for each in HistoryRow._fields), *more)
