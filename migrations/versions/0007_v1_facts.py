"""TarSums of V1 images, and the clients that pushed tags.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("v1_images", sa.Column("tarsum", sa.String(length=100), nullable=True))
    op.add_column("v1_images", sa.Column("tarsum_verified", sa.Boolean(), nullable=True))
    op.add_column("tags", sa.Column("agent", sa.String(length=255), nullable=True))


def downgrade() -> None:
    op.drop_column("tags", "agent")
    op.drop_column("v1_images", "tarsum_verified")
    op.drop_column("v1_images", "tarsum")
