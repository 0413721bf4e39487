"""Rules of immutable tags. Older versions do not obey them.

Revision ID: 0026
Revises: 0025
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.create_table(
        "immutable_tags",
        sa.Column("pattern", sa.String(400), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("pattern", name=op.f("pk_immutable_tags")),
    )


def downgrade() -> None:
    op.drop_table("immutable_tags")
