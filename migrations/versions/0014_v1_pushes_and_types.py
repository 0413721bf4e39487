"""When something of a V1 image last arrived, and manifests under media types that browsers show.

Earlier versions took any ``Content-Type`` for a manifest that has none in itself, such as ``text/html``.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("v1_images", sa.Column("touched_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        "UPDATE manifests SET media_type = 'application/json'"
        " WHERE lower(media_type) NOT LIKE 'application/%'"
    )


def downgrade() -> None:
    """Leave the media types: no older version needs the others."""
    op.drop_column("v1_images", "touched_at")
