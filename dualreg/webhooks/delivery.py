"""Delivery: every webhook gets its events, in order for each repository, for as long as the server runs.

A thread collects new events. Each webhook has a thread that finds what is due, and a few that send it, so
that one that is slow or down keeps no other one waiting. In memory are some events of a few repositories.
"""

import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event, Thread

from dualreg.catalog.database import DatabaseFailure, failure_text
from dualreg.catalog.leading import LeadLost
from dualreg.catalog.outbox import QueueRow
from dualreg.catalog.webhooks import WebhookRow
from dualreg.registry.outbox import Failure, Outbox
from dualreg.webhooks.documents import event_document
from dualreg.webhooks.sending import Networks, Sender

_log = logging.getLogger(__name__)
#: Seconds between two looks for new events, and for what is due.
_LOOK = 0.5
#: Seconds between two looks while writers have not committed.
_SETTLING = 0.02
#: Seconds between two looks after the catalog has failed.
_AFTER_FAILURE = 5.0
#: Seconds between two messages that a webhook fails.
_REPORT = 60.0
#: Repositories of which events are sent to a webhook at the same time.
_AT_ONCE = 4
#: Events of a repository that are sent before that is noted, and the seconds after which it is in any case.
_BATCH, _BATCH_SECONDS = 20, 2.0


@dataclass
class Delivery:
    """Sends events until *stop* is set.

    Attributes:
        url: Of the registry; empty: not known.
        networks: As ``Sender``.
        idle: Called when there are no webhooks; ends the delivery if it returns True.
    """

    outbox: Outbox
    stop: Event
    url: str = ""
    networks: Networks = ()
    idle: Callable[[], bool] = lambda: False
    _running: dict[str, "_Webhook"] = field(default_factory=dict, repr=False)
    _errors: list[Exception] = field(default_factory=list, repr=False)

    def run(self) -> None:
        """Deliver.

        Raises:
            LeadLost: another process does, by now.
        """
        try:
            while not self.stop.is_set():
                self.stop.wait(self.guard(self._step))
        finally:
            self.stop.set()
            for each in self._running.values():
                each.end()
                each.join()
        if self._errors:
            raise self._errors[0]

    def guard(self, step: Callable[[], float]) -> float:
        """Take a step of any thread; return for how many seconds to wait then."""
        try:
            return step()
        except Exception as error:  # noqa: BLE001 -- ``run`` raises it
            if isinstance(error, DatabaseFailure) and not isinstance(error, LeadLost):
                _log.warning("events wait, as the catalog fails: %s", failure_text(error))
                return _AFTER_FAILURE
            self._errors.append(error)
            self.stop.set()
        return 0.0

    def _step(self) -> float:
        """Collect new events, and follow changes of webhooks; return for how many seconds to wait then."""
        webhooks = self.outbox.webhooks()
        for name in [name for name, each in self._running.items() if webhooks.get(name) != each.row]:
            self._running.pop(name).end()
        for name, row in webhooks.items():
            if name not in self._running:
                self._running[name] = _Webhook(self, row)
        if not webhooks and self.idle():
            self.stop.set()
        more = self.outbox.collect()
        for each in self._running.values():
            each.wake.set()
        return 0.0 if more else _SETTLING if self.outbox.is_settling else _LOOK


class _Webhook:
    """Sends events to one webhook."""

    def __init__(self, delivery: Delivery, row: WebhookRow) -> None:
        self.row, self.wake = row, Event()
        self._delivery, self._sender = delivery, Sender(row, delivery.networks)
        self._sending: dict[Future[None], str] = {}
        self._ended, self._next_report = Event(), 0.0
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix=f"webhook-{row.name}")
        self._thread = Thread(target=self._run, name=f"webhook-{row.name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Begin to send nothing more."""
        self._ended.set()
        self.wake.set()

    def join(self) -> None:
        """Wait for what is being sent after ``end``."""
        self._thread.join()

    def _is_over(self) -> bool:
        return self._ended.is_set() or self._delivery.stop.is_set()

    def _run(self) -> None:
        with self._pool:  # which ends with this thread alone: it takes nothing more then
            while not self._is_over():
                seconds = self._delivery.guard(self._step)
                if self._sending:
                    wait(self._sending, timeout=seconds, return_when=FIRST_COMPLETED)
                else:
                    self.wake.wait(seconds)
                self.wake.clear()

    def _step(self) -> float:
        """Begin to send what is due; return for how many seconds to wait then."""
        for done in [each for each in self._sending if each.done()]:
            del self._sending[done]
            done.result()  # which may raise what the catalog did
        busy = set(self._sending.values())
        free = _AT_ONCE - len(busy)
        for queue in self._delivery.outbox.due(self.row.name, busy, free) if free else ():
            if not self._is_over():
                self._sending[self._pool.submit(self._send, queue)] = queue.repository
        return _LOOK

    def _send(self, queue: QueueRow) -> None:
        """Send some events of a repository, and note what came of it."""
        outbox, delivered, failure = self._delivery.outbox, list[int](), None
        until = time.monotonic() + _BATCH_SECONDS
        for event in outbox.pending(self.row.name, queue.repository, _BATCH):
            document = event_document(event, self.row.format, self._delivery.url)
            failure = self._sender.send(document).failure
            if failure is None:
                delivered.append(event.id)
            if failure or self._is_over() or time.monotonic() > until:
                break
        self._report(failure, self._record(queue, delivered, failure))

    def _record(self, queue: QueueRow, delivered: Collection[int], failure: Failure | None) -> int:
        """Note what came of attempts, however long the catalog fails: nothing is sent again meanwhile."""
        while True:
            try:
                return self._delivery.outbox.record(self.row.name, queue, delivered, failure)
            except DatabaseFailure as error:
                if isinstance(error, LeadLost) or self._delivery.stop.wait(_AFTER_FAILURE):
                    raise
                _log.warning("cannot note what webhook %s has: %s", self.row.name, failure_text(error))

    def _report(self, failure: Failure | None, given_up: int) -> None:
        """Log that a webhook fails, now and then, and what is given up."""
        if failure and time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + _REPORT
            _log.warning("webhook %s fails, and is tried again: %s", self.row.name, failure.reason)
        if failure and given_up:
            _log.error("webhook %s: gave up %d events: %s", self.row.name, given_up, failure.reason)
