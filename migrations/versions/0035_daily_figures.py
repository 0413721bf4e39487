"""What was pulled, pushed and stored by day. Older versions count none of it.

Revision ID: 0035
Revises: 0034
"""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"

_DAY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_STORED = (
    "repositories",
    "tags",
    "blobs",
    "content_bytes",
    "manifest_bytes",
    "transcoded_bytes",
    "deleted_bytes",
    "condemned_bytes",
)


def upgrade() -> None:
    op.create_table(
        "daily_figures",
        sa.Column("day", _DAY, nullable=False),
        sa.Column("pulls", sa.BigInteger, nullable=False),
        sa.Column("pushes", sa.BigInteger, nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=True),
        *(sa.Column(name, sa.BigInteger, nullable=True) for name in _STORED),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_daily_figures")),
    )


def downgrade() -> None:
    op.drop_table("daily_figures")
