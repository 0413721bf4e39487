"""Tasks: the last run of each.

Revision ID: 0029
Revises: 0028
"""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "tasks",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("instance", sa.String(255), nullable=False),
        sa.Column("process", sa.String(100), nullable=False),
        sa.Column("started_at", instant, nullable=False),
        sa.Column("ended_at", instant, nullable=True),
        sa.Column("failed", sa.Boolean, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tasks")),
    )


def downgrade() -> None:
    op.drop_table("tasks")
