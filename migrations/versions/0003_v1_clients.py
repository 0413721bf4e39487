"""V1 clients.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "v1_clients",
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=100), nullable=False),
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("first_seen", _INSTANT, nullable=False),
        sa.Column("last_seen", _INSTANT, nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("address", "version", "repository", name=op.f("pk_v1_clients")),
    )
    op.create_index(op.f("ix_v1_clients_last_seen"), "v1_clients", ["last_seen"], unique=False)


def downgrade() -> None:
    op.drop_table("v1_clients")
