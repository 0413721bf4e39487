"""The outbox: moves of tags become events, and wait for webhooks until these have them.

One process does this for all instances (``Duty.WEBHOOKS``). Of a repository, a webhook gets the next event
only when it has the one before, or that was given up; so it is in order. Repositories do not wait for each
other, unless the receiver is down.
"""

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.moves import HistoryRow
from dualreg.catalog.outbox import QueueRow
from dualreg.catalog.webhooks import WebhookRow, WebhookState
from dualreg.image.names import RepositoryName
from dualreg.registry.webhooks import wants

#: Moves that become events in one transaction.
_BATCH = 500
#: Seconds before the second attempt; each further one waits twice as long.
_FIRST = 1.0
#: Seconds that an event waits at most which its receiver does not take; and if the receiver is down, each.
_LONGEST, _LONGEST_DOWN = 600.0, 60.0
#: Seconds of the longest wait that a receiver can ask for.
_LONGEST_ASKED = 3600.0
#: Attempts before anything is given up: while no server runs, nothing fails, and time passes all the same.
_LEAST = 10
#: Seconds to wait for writers before moves are forgotten, and between two looks at them.
_WRITERS, _SETTLING = 10.0, 0.02
#: How long nothing is attempted at most that fails, while a server runs.
_IDLE = timedelta(hours=2)
#: Doublings after which any wait is the longest.
_DOUBLINGS = 20


class Failure(NamedTuple):
    """Why an attempt has failed.

    Attributes:
        is_down: Whether that says nothing about the event, but that the receiver is down or busy.
        retry_after: Seconds that the receiver wants to be left alone; 0: it does not say.
    """

    reason: str
    is_down: bool
    retry_after: float = 0.0


@dataclass
class Outbox:
    """What waits for webhooks.

    Attributes:
        give_up: How long an event waits that cannot be delivered.
        spread: Chooses a number between two, so that not all attempts are made at once.
    """

    catalog: Catalog
    give_up: timedelta = timedelta(days=3)
    spread: Callable[[float, float], float] = random.uniform
    _settled: int = 0
    _waited: tuple[int, frozenset[str]] | None = field(default=None, repr=False)

    def webhooks(self) -> Mapping[str, WebhookRow]:
        """Return all webhooks, by name."""
        with self.catalog.read() as tx:
            return {each.name: each for each in tx.webhooks.list()}

    @property
    def is_settling(self) -> bool:
        """Whether moves are visible that do not count yet: see ``settled``."""
        return self._waited is not None

    def settled(self) -> int:
        """Return the number of a move below which no others will appear.

        On PostgreSQL, transactions that take numbers may be committed in another order. So the last visible
        number counts once all have ended that held the lock on the table of moves after it was seen.
        """
        with self.catalog.read() as tx:
            queries = tx.webhooks.outbox
            upto, writers = self._waited or (queries.last(), queries.writers())
            if self._waited:
                writers &= queries.writers()
            if writers:
                self._waited = (upto, writers)
                return self._settled
            last = queries.last() if self._waited else upto  # others were made during the wait
            self._settled, self._waited = upto, (last, queries.writers()) if last > upto else None
        return self._settled

    def collect(self) -> bool:
        """Have moves become events of the webhooks that want them; return whether there are more.

        What it reads is durable when it returns: nothing is sent that a power cut could take back.
        """
        upto = self.settled()
        with self.catalog.read() as tx:
            names, states = [each.name for each in tx.webhooks.list()], tx.webhooks.states()
        positions = [states[name].position for name in names if name in states]
        if len(positions) == len(names) and min(positions, default=upto) >= upto:
            return False
        with self.catalog.begin() as tx:
            return self._collect(tx, upto)

    def catch_up(self) -> None:
        """Collect all that has happened, also beside the process that delivers; without webhooks, nothing.

        On PostgreSQL, what writes for long may keep moves uncollected that were made after it began.
        """
        until = time.monotonic() + _WRITERS
        while self.webhooks() and (self.collect() or (self.is_settling and time.monotonic() < until)):
            if self.is_settling:
                time.sleep(_SETTLING)

    def _collect(self, tx: Transaction, upto: int) -> bool:
        webhooks, states = list[WebhookRow](), dict[str, WebhookState]()
        for each in tx.webhooks.list():
            # One that came by a rebuild begins now; one that was removed meanwhile does not.
            if state := tx.webhooks.lock(each.name) or tx.webhooks.begin(each.name):
                webhooks.append(each)
                states[each.name] = state
        first = min((state.position for state in states.values()), default=upto)
        queries = tx.webhooks.outbox
        moves = queries.moves(first, upto, _BATCH)
        last = moves[-1].id if len(moves) == _BATCH else upto
        for each in webhooks:
            position = states[each.name].position
            events = [move for move in moves if move.id > position and wants(each, move)]
            if events:
                queries.queue(each.name, events)
            if last > position:
                tx.webhooks.advance(each.name, last)
        return len(moves) == _BATCH

    def resume(self) -> None:
        """Begin to deliver after a time in which no server ran: that time does not count as failures."""
        with self.catalog.begin() as tx:
            for name in tx.webhooks.states():
                state = tx.webhooks.lock(name)
                if state and state.attempted_at and tx.now - state.attempted_at > _IDLE:
                    if state.failing_since:
                        tx.webhooks.change(name, failing_since=tx.now)
                    tx.webhooks.outbox.restart(name)

    def due(self, webhook: str, busy: Collection[str], limit: int) -> Sequence[QueueRow]:
        """Return up to *limit* repositories whose next event is to be sent now; one, while attempts fail.

        Args:
            busy: Repositories of which events are being sent.
        """
        with self.catalog.read() as tx:
            state = tx.webhooks.states().get(webhook)
            if state is None or (state.due_at and state.due_at > tx.now):
                return []
            if state.due_at:
                limit = min(limit, 1 - len(busy))
            if limit < 1:
                return []
            return tx.webhooks.outbox.due(webhook, busy, limit)

    def pending(self, webhook: str, repository: RepositoryName, limit: int) -> Sequence[HistoryRow]:
        """Return up to *limit* events of a repository that wait for a webhook, in order."""
        with self.catalog.read() as tx:
            return tx.webhooks.outbox.pending(webhook, repository, limit)

    def record(
        self, webhook: str, queue: QueueRow, delivered: Collection[int], failure: Failure | None = None
    ) -> int:
        """Note what came of attempts for a repository; return how many events were given up.

        A power cut may take that back: then events are sent again.

        Args:
            queue: As ``due`` has returned it.
            failure: Why the attempt after those has failed; None: it did not, or there was none.
        """
        with self.catalog.begin(durable=False) as tx:
            state = tx.webhooks.lock(webhook)
            if state is None:  # it was removed meanwhile
                return 0
            queries = tx.webhooks.outbox
            queries.forget(webhook, delivered)
            values: dict[str, object] = {"attempted_at": tx.now}
            if delivered:
                values |= {"delivered": state.delivered + len(delivered), "delivered_at": tx.now}
                values |= {"failures": 0, "failing_since": None, "due_at": None, "error": ""}
                state = WebhookState(webhook, state.position, failed=state.failed, given_up=state.given_up)
                queue = QueueRow(queue.repository, 0, None)
                queries.end(webhook, queue.repository)
            given_up = 0
            if failure:
                given_up = self._fail(tx, state, queue, failure)
                values |= _failed(tx.now, state, failure) | {"given_up": state.given_up + given_up}
                values |= {"due_at": self._back_at(tx.now, state, failure)}
            elif not delivered:
                queries.end(webhook, queue.repository)
            tx.webhooks.change(webhook, **values)
        return given_up

    def _fail(self, tx: Transaction, state: WebhookState, queue: QueueRow, failure: Failure) -> int:
        """Delay a queue after a failure, or give up what has waited for too long; return how many events."""
        queries, now = tx.webhooks.outbox, tx.now
        longest = _LONGEST_DOWN if failure.is_down else _LONGEST
        wait = self._wait(queue.attempts + 1, longest, failure.retry_after)
        since = queue.failing_since or now
        queries.delay(state.webhook, queue.repository, now + wait, since, failure.reason)
        before = now - self.give_up
        if failure.is_down and state.failures + 1 >= _LEAST and (state.failing_since or now) <= before:
            return queries.give_up(state.webhook, None, before, failure.reason)
        if queue.attempts + 1 >= _LEAST and since <= before:
            return queries.give_up(state.webhook, queue.repository, before, failure.reason)
        return 0

    def _back_at(self, now: datetime, state: WebhookState, failure: Failure) -> datetime | None:
        """Return when a receiver is asked again that is down; None: it is not."""
        if not failure.is_down:
            return None
        return now + self._wait(state.failures + 1, _LONGEST_DOWN, failure.retry_after)

    def _wait(self, attempts: int, longest: float, asked: float) -> timedelta:
        """Return how long to wait after so many attempts; half of it by chance, but as long as was asked."""
        wait = min(_FIRST * 2 ** min(attempts - 1, _DOUBLINGS), longest)
        return timedelta(seconds=max(self.spread(wait / 2, wait), min(asked, _LONGEST_ASKED)))


def _failed(now: datetime, state: WebhookState, failure: Failure) -> dict[str, object]:
    """Return what is noted of a webhook after a failure."""
    return {
        "failed": state.failed + 1,
        "failures": state.failures + 1,
        "failing_since": state.failing_since or now,
        "error": failure.reason,
    }
