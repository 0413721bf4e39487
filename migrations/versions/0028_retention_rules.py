"""Retention rules: which tags stay.

Revision ID: 0028
Revises: 0027
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    name = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
    op.create_table(
        "retention_rules",
        sa.Column("repositories", name, nullable=False),
        sa.Column("tags", name, nullable=False),
        sa.Column("newest", sa.BigInteger, nullable=True),
        sa.Column("younger_than", sa.BigInteger, nullable=True),
        sa.Column("pulled_within", sa.BigInteger, nullable=True),
        sa.Column("matching", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("repositories", "tags", name=op.f("pk_retention_rules")),
    )


def downgrade() -> None:
    op.drop_table("retention_rules")
