"""Accounts, groups, permissions, secrets and failed logins.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

from dualreg.catalog.columns import NameColumn, UtcDateTime

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("name", NameColumn, primary_key=True),
        sa.Column("password_hash", sa.String(100)),
        sa.Column("robot", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "group_members",
        sa.Column("account", NameColumn, primary_key=True),
        sa.Column("group_name", NameColumn, primary_key=True),
    )
    op.create_table(
        "permissions",
        sa.Column("who", NameColumn, primary_key=True),
        sa.Column("pattern", NameColumn, primary_key=True),
        sa.Column("actions", sa.String(40), nullable=False),
    )
    op.create_table(
        "secrets",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("account", NameColumn, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("note", sa.String(200), nullable=False),
        sa.Column("service", sa.String(255), nullable=False),
        sa.Column("binding", sa.String(64), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime),
    )
    op.create_index("ix_secrets_account", "secrets", ["account"])
    op.create_table(
        "login_failures",
        sa.Column("subject", sa.String(64), primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("since", UtcDateTime, nullable=False),
    )
    op.create_index("ix_login_failures_since", "login_failures", ["since"])


def downgrade() -> None:
    for table in ("login_failures", "secrets", "permissions", "group_members", "accounts"):
        op.drop_table(table)
