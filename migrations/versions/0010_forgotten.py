"""Not only tags: manifests, V1 images and whole repositories that were deleted here are not taken in again.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

from dualreg.catalog.columns import NameColumn, UtcDateTime

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "forgotten",
        sa.Column("repository", NameColumn, primary_key=True),
        sa.Column("reference", NameColumn, primary_key=True),
        sa.Column("at", UtcDateTime, nullable=False),
    )
    op.execute(
        "INSERT INTO forgotten (repository, reference, at) SELECT repository, tag, at FROM forgotten_tags"
    )
    op.drop_table("forgotten_tags")


def downgrade() -> None:
    op.create_table(
        "forgotten_tags",
        sa.Column("repository", NameColumn, primary_key=True),
        sa.Column("tag", NameColumn, primary_key=True),
        sa.Column("at", UtcDateTime, nullable=False),
    )
    op.execute(
        "INSERT INTO forgotten_tags (repository, tag, at) SELECT repository, reference, at FROM forgotten"
        " WHERE reference <> '' AND reference NOT LIKE '%:%'"
    )
    op.drop_table("forgotten")
