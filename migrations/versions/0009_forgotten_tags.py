"""Tags that were deleted here, and are not taken in again.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

from dualreg.catalog.columns import NameColumn, UtcDateTime

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "forgotten_tags",
        sa.Column("repository", NameColumn, primary_key=True),
        sa.Column("tag", NameColumn, primary_key=True),
        sa.Column("at", UtcDateTime, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("forgotten_tags")
