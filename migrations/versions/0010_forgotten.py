"""Deleted manifests, V1 images and repositories, which must not be imported on demand again, like tags.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "forgotten",
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("reference", _NAME, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("repository", "reference", name="pk_forgotten"),
    )
    op.execute(
        "INSERT INTO forgotten (repository, reference, at) SELECT repository, tag, at FROM forgotten_tags"
    )
    op.drop_table("forgotten_tags")


def downgrade() -> None:
    op.create_table(
        "forgotten_tags",
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("tag", _NAME, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("repository", "tag", name="pk_forgotten_tags"),
    )
    op.execute(
        "INSERT INTO forgotten_tags (repository, tag, at) SELECT repository, reference, at FROM forgotten"
        " WHERE reference <> '' AND reference NOT LIKE '%:%'"
    )
    op.drop_table("forgotten")
