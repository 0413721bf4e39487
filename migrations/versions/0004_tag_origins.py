"""Origins of tags.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # A constant default: no row is rewritten, and the previous version goes on writing tags.
    op.add_column("tags", sa.Column("origin", sa.String(length=8), server_default="v2", nullable=False))


def downgrade() -> None:
    op.drop_column("tags", "origin")
