"""Origins of tags.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# Of the images that manifests are to V1 clients, only those that a client pushed have a checksum.
_PUSHED_OVER_V1 = """
UPDATE tags SET origin = 'v1' WHERE EXISTS (
    SELECT 1 FROM manifest_views JOIN v1_images
    ON v1_images.repository_id = manifest_views.repository_id AND v1_images.image_id = manifest_views.view
    WHERE manifest_views.repository_id = tags.repository_id AND manifest_views.manifest = tags.manifest
    AND manifest_views.kind = 'v1' AND v1_images.checksum IS NOT NULL
)
"""


def upgrade() -> None:
    # A constant default: the previous version goes on writing tags.
    op.add_column("tags", sa.Column("origin", sa.String(length=8), server_default="v2", nullable=False))
    op.execute(_PUSHED_OVER_V1)


def downgrade() -> None:
    op.drop_column("tags", "origin")
