"""Since when a link may be garbage, so that garbage is found without looking at everything.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

_FOUND = sa.text("candidate_since IS NOT NULL")


def upgrade() -> None:
    op.add_column("repository_blobs", sa.Column("candidate_since", sa.DateTime(timezone=True), nullable=True))
    columns = ["candidate_since", "repository_id", "digest"]
    op.create_index(
        "ix_repository_blobs_candidate",
        "repository_blobs",
        columns,
        sqlite_where=_FOUND,
        postgresql_where=_FOUND,
    )


def downgrade() -> None:
    op.drop_index("ix_repository_blobs_candidate", "repository_blobs")
    op.drop_column("repository_blobs", "candidate_since")
