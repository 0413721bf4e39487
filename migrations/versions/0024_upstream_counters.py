"""Counters of upstreams: what came from other registries, and what did not have to.

Revision ID: 0024
Revises: 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

_COUNTERS = ("hits", "misses", "stale", "errors", "bytes")


def upgrade() -> None:
    op.create_table(
        "upstream_counters",
        sa.Column("upstream", sa.String(255), nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTERS),
        sa.PrimaryKeyConstraint("upstream", name=op.f("pk_upstream_counters")),
    )


def downgrade() -> None:
    op.drop_table("upstream_counters")
