"""Accounts, groups, permissions, secrets and failed logins.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("password_hash", sa.String(100)),
        sa.Column("robot", sa.Boolean, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_accounts"),
    )
    op.create_table(
        "group_members",
        sa.Column("account", _NAME, nullable=False),
        sa.Column("group_name", _NAME, nullable=False),
        sa.PrimaryKeyConstraint("account", "group_name", name="pk_group_members"),
    )
    op.create_table(
        "permissions",
        sa.Column("who", _NAME, nullable=False),
        sa.Column("pattern", _NAME, nullable=False),
        sa.Column("actions", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("who", "pattern", name="pk_permissions"),
    )
    op.create_table(
        "secrets",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("account", _NAME, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("note", sa.String(200), nullable=False),
        sa.Column("service", sa.String(255), nullable=False),
        sa.Column("binding", sa.String(64), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_secrets"),
    )
    op.create_index("ix_secrets_account", "secrets", ["account"])
    op.create_table(
        "login_failures",
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("since", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_login_failures"),
    )
    op.create_index("ix_login_failures_since", "login_failures", ["since"])


def downgrade() -> None:
    for table in ("login_failures", "secrets", "permissions", "group_members", "accounts"):
        op.drop_table(table)
