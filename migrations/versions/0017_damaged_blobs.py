"""When a blob was found to be lost or damaged.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("blobs", sa.Column("damaged_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_blobs_damaged_at", "blobs", ["damaged_at"])


def downgrade() -> None:
    op.drop_index("ix_blobs_damaged_at", "blobs")
    op.drop_column("blobs", "damaged_at")
