"""The layouts of uploads: how stores keep their bytes that need more than a name.

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.add_column("uploads", sa.Column("layout", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("uploads", "layout")
