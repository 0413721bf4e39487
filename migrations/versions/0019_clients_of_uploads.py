"""Whose uploads are in progress, and how much is arriving.

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column("uploads", sa.Column("client", sa.String(64), nullable=False, server_default=""))
    op.add_column("uploads", sa.Column("arriving", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("ix_uploads_client_touched_at", "uploads", ["client", "touched_at"])


def downgrade() -> None:
    op.drop_index("ix_uploads_client_touched_at", "uploads")
    op.drop_column("uploads", "arriving")
    op.drop_column("uploads", "client")
