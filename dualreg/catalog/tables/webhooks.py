"""The tables of webhooks, and of the events that they have not got yet."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from dualreg.catalog.columns import DigestColumn, NameColumn, UtcDateTime
from dualreg.catalog.tables.base import Table
from dualreg.image.digest import Digest

#: Characters of the longest name of a webhook.
_NAME = 64


class Webhooks(Table):
    """Webhooks as operators add them. ``patterns`` and ``actions`` are separated by spaces.

    Files are absolute paths; empty: none.
    """

    __tablename__ = "webhooks"

    name: Mapped[str] = mapped_column(String(_NAME), primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(String(16))
    patterns: Mapped[str] = mapped_column(Text)
    actions: Mapped[str] = mapped_column(String(64))
    secret_file: Mapped[str] = mapped_column(Text)
    authorization_file: Mapped[str] = mapped_column(Text)
    ca: Mapped[str] = mapped_column(Text)
    added_at: Mapped[datetime] = mapped_column(UtcDateTime)


class WebhookStates(Table):
    """How far each webhook is. ``position`` is the last row of ``tag_history`` that was looked at for it.

    ``failures`` are those since the last success, ``failing_since`` the first of them. ``due_at``: nothing
    is sent before, because the receiver was down.
    """

    __tablename__ = "webhook_states"

    webhook: Mapped[str] = mapped_column(String(_NAME), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    delivered: Mapped[int] = mapped_column(BigInteger, server_default="0")
    failed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    given_up: Mapped[int] = mapped_column(BigInteger, server_default="0")
    failures: Mapped[int] = mapped_column(BigInteger, server_default="0")
    failing_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    attempted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    delivered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str] = mapped_column(Text, server_default="")


class WebhookQueues(Table):
    """The repositories of which events wait for a webhook; the next one is sent at ``due_at`` or later."""

    __tablename__ = "webhook_queues"
    __table_args__ = (Index("ix_webhook_queues_due", "webhook", "due_at"),)

    webhook: Mapped[str] = mapped_column(String(_NAME), primary_key=True)
    repository: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    due_at: Mapped[datetime] = mapped_column(UtcDateTime)
    attempts: Mapped[int] = mapped_column(BigInteger, server_default="0")
    failing_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str] = mapped_column(Text, server_default="")


class WebhookEvents(Table):
    """Events that a webhook has not got: copies of rows of ``tag_history``, with their numbers.

    ``dead_at`` is NULL while they wait, and otherwise when they were given up; ``error`` says why.
    """

    __tablename__ = "webhook_events"
    __table_args__ = (
        Index("ix_webhook_events_queue", "webhook", "repository", "dead_at", "id"),
        Index("ix_webhook_events_dead", "webhook", "dead_at", "id"),
    )

    webhook: Mapped[str] = mapped_column(String(_NAME), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    repository: Mapped[str] = mapped_column(NameColumn)
    tag: Mapped[str] = mapped_column(NameColumn)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(Text)
    api: Mapped[str] = mapped_column(String(16))
    old: Mapped[Digest | None] = mapped_column(DigestColumn)
    new: Mapped[Digest | None] = mapped_column(DigestColumn)
    origin: Mapped[str] = mapped_column(String(8))
    media_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    queued_at: Mapped[datetime] = mapped_column(UtcDateTime)
    dead_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str] = mapped_column(Text, server_default="")
