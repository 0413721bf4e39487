"""SQL of webhooks: which there are, and how far each is. What waits for them is in ``outbox``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from dualreg.catalog.dialects import insert
from dualreg.catalog.outbox import OutboxQueries
from dualreg.catalog.tables import TagHistory, WebhookEvents, WebhookQueues, Webhooks, WebhookStates


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """A webhook, as it was added.

    Attributes:
        patterns: ``REPOSITORY`` or ``REPOSITORY:TAG``; what matches one of them is sent.
        actions: What is sent of that: ``push``, ``delete``.
        secret_file, authorization_file, ca: Absolute paths; empty: none.
    """

    name: str
    url: str = field(repr=False)
    format: str
    patterns: tuple[str, ...]
    actions: tuple[str, ...]
    secret_file: str = ""
    authorization_file: str = ""
    ca: str = ""
    added_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class WebhookState:
    """How far a webhook is.

    Attributes:
        position: The number of the last move of a tag that was looked at for it.
        delivered, failed, given_up: Events that it got, attempts that failed, and events that were given up.
        failures: Attempts that have failed since the last success; the first of them *failing_since*.
        due_at: Nothing is sent before, since the receiver was down; None: at once.
        error: Why the last attempt failed; empty: it did not.
    """

    webhook: str
    position: int
    delivered: int = 0
    failed: int = 0
    given_up: int = 0
    failures: int = 0
    failing_since: datetime | None = None
    due_at: datetime | None = None
    attempted_at: datetime | None = None
    delivered_at: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class WebhookQueries:
    """The webhooks."""

    connection: Connection
    now: datetime

    @property
    def outbox(self) -> OutboxQueries:
        """What waits for them."""
        return OutboxQueries(self.connection, self.now)

    def add(self, webhook: WebhookRow) -> bool:
        """Add a webhook, which gets what happens from now on; return False if there is one of that name."""
        values = {
            "url": webhook.url,
            "format": webhook.format,
            "patterns": " ".join(webhook.patterns),
            "actions": " ".join(webhook.actions),
            "secret_file": webhook.secret_file,
            "authorization_file": webhook.authorization_file,
            "ca": webhook.ca,
            "added_at": self.now,
        }
        row = insert(self.connection, Webhooks).values(name=webhook.name, **values)
        added = row.on_conflict_do_nothing().returning(Webhooks.name)
        if self.connection.scalar(added) is None:
            return False
        self._forget(webhook.name)  # of a former one, which a copy of what operators have set did not have
        self.begin(webhook.name)
        return True

    def begin(self, name: str) -> WebhookState | None:
        """Note that a webhook gets what happens from now on, unless it is known how far it is.

        Return how far it is, as ``lock``; None: it was removed meanwhile.
        """
        last = select(func.coalesce(func.max(TagHistory.id), 0)).scalar_subquery()
        known = select(Webhooks.name, last).where(Webhooks.name == name).with_for_update(read=True)
        row = insert(self.connection, WebhookStates).from_select(["webhook", "position"], known)
        self.connection.execute(row.on_conflict_do_nothing())
        return self.lock(name)

    def remove(self, name: str) -> bool:
        """Delete a webhook, with all that waits for it; return whether there was one."""
        found = self.connection.execute(delete(Webhooks).where(Webhooks.name == name)).rowcount > 0
        self.lock(name)
        self._forget(name)
        return found

    def _forget(self, name: str) -> None:
        for table in (WebhookEvents, WebhookQueues, WebhookStates):
            self.connection.execute(delete(table).where(table.webhook == name))

    def list(self) -> Sequence[WebhookRow]:
        """Return all webhooks, by name."""
        query = select(Webhooks.__table__)
        return sorted(map(_row, self.connection.execute(query)), key=lambda row: row.name)

    def find(self, name: str) -> WebhookRow | None:
        """Return a webhook; None if there is none."""
        found = self.connection.execute(select(Webhooks.__table__).where(Webhooks.name == name)).one_or_none()
        return None if found is None else _row(found)

    def states(self) -> Mapping[str, WebhookState]:
        """Return how far each webhook is, by name."""
        query = select(WebhookStates.__table__)
        found = [WebhookState(**row._asdict()) for row in self.connection.execute(query)]
        return {state.webhook: state for state in found}

    def lock(self, name: str) -> WebhookState | None:
        """Return how far a webhook is, locked until the transaction ends; None if there is none.

        Who changes what waits for a webhook calls it before.
        """
        query = select(WebhookStates.__table__).where(WebhookStates.webhook == name).with_for_update()
        found = self.connection.execute(query).one_or_none()
        return None if found is None else WebhookState(**found._asdict())

    def advance(self, name: str, position: int) -> None:
        """Note up to which move of a tag everything was looked at for a webhook."""
        self.change(name, position=position)

    def change(self, name: str, **values: object) -> None:
        """Change how far a webhook is, which is locked."""
        self.connection.execute(update(WebhookStates).where(WebhookStates.webhook == name).values(values))


def _row(row: Any) -> WebhookRow:  # noqa: ANN401 -- of the table, whose columns are in the same order
    name, url, format_, patterns, actions, *others = row
    return WebhookRow(name, url, format_, (*patterns.split(),), (*actions.split(),), *others)
