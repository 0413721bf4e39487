"""Webhooks, and the events that they have not got yet. Older versions know none.

Revision ID: 0033
Revises: 0032
"""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"

_DIGEST = sa.String(135)
_NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("patterns", sa.Text, nullable=False),
        sa.Column("actions", sa.String(64), nullable=False),
        sa.Column("secret_file", sa.Text, nullable=False),
        sa.Column("authorization_file", sa.Text, nullable=False),
        sa.Column("ca", sa.Text, nullable=False),
        sa.Column("added_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_webhooks")),
    )
    op.create_table(
        "webhook_states",
        sa.Column("webhook", sa.String(64), nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        *(
            sa.Column(name, sa.BigInteger, server_default="0", nullable=False)
            for name in ("delivered", "failed", "given_up", "failures")
        ),
        *(
            sa.Column(name, _INSTANT, nullable=True)
            for name in ("failing_since", "due_at", "attempted_at", "delivered_at")
        ),
        sa.Column("error", sa.Text, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("webhook", name=op.f("pk_webhook_states")),
    )
    op.create_table(
        "webhook_queues",
        sa.Column("webhook", sa.String(64), nullable=False),
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("due_at", _INSTANT, nullable=False),
        sa.Column("attempts", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("failing_since", _INSTANT, nullable=True),
        sa.Column("error", sa.Text, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("webhook", "repository", name=op.f("pk_webhook_queues")),
    )
    op.create_index("ix_webhook_queues_due", "webhook_queues", ["webhook", "due_at"])
    op.create_table(
        "webhook_events",
        sa.Column("webhook", sa.String(64), nullable=False),
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("tag", _NAME, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("api", sa.String(16), nullable=False),
        sa.Column("old", _DIGEST, nullable=True),
        sa.Column("new", _DIGEST, nullable=True),
        sa.Column("origin", sa.String(8), nullable=False),
        sa.Column("media_type", sa.String, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("queued_at", _INSTANT, nullable=False),
        sa.Column("dead_at", _INSTANT, nullable=True),
        sa.Column("error", sa.Text, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("webhook", "id", name=op.f("pk_webhook_events")),
    )
    op.create_index("ix_webhook_events_queue", "webhook_events", ["webhook", "repository", "dead_at", "id"])
    op.create_index("ix_webhook_events_dead", "webhook_events", ["webhook", "dead_at", "id"])


def downgrade() -> None:
    for table in ("webhook_events", "webhook_queues", "webhook_states", "webhooks"):
        op.drop_table(table)
