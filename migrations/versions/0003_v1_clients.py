"""V1 clients.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

from dualreg.catalog.columns import NameColumn, UtcDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "v1_clients",
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=100), nullable=False),
        sa.Column("repository", NameColumn(length=255), nullable=False),
        sa.Column("first_seen", UtcDateTime(timezone=True), nullable=False),
        sa.Column("last_seen", UtcDateTime(timezone=True), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("address", "version", "repository", name=op.f("pk_v1_clients")),
    )
    op.create_index(op.f("ix_v1_clients_last_seen"), "v1_clients", ["last_seen"], unique=False)


def downgrade() -> None:
    op.drop_table("v1_clients")
