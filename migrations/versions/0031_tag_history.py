"""What tags pointed at. Older versions do not write it down.

Revision ID: 0031
Revises: 0030
"""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"

_DIGEST = sa.String(135)
_NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "tag_history",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), nullable=False),
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("tag", _NAME, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("api", sa.String(16), nullable=False),
        sa.Column("old", _DIGEST, nullable=True),
        sa.Column("new", _DIGEST, nullable=True),
        sa.Column("origin", sa.String(8), nullable=False),
        sa.Column("media_type", sa.String, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tag_history")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tag_history_tag", "tag_history", ["repository", "tag", "at", "id"])
    op.create_index("ix_tag_history_old", "tag_history", ["repository", "old"])


def downgrade() -> None:
    op.drop_table("tag_history")
