"""The names of the staged bytes of uploads, and the processes that write to them.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("uploads", sa.Column("process", sa.String(100), nullable=False, server_default=""))
    op.add_column("uploads", sa.Column("staged", sa.String(36), nullable=False, server_default=""))
    op.add_column("uploads", sa.Column("stalled", sa.String(100), nullable=True))
    op.execute("UPDATE uploads SET staged = id")
    op.create_index("ix_uploads_staged", "uploads", ["staged"])


def downgrade() -> None:
    op.execute("DELETE FROM uploads WHERE staged <> id")  # clients start these again
    op.drop_index("ix_uploads_staged", "uploads")
    op.drop_column("uploads", "stalled")
    op.drop_column("uploads", "staged")
    op.drop_column("uploads", "process")
