"""Layers that clients sent for V1 images: who pushes an image at the same time as others completes its own.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_DIGEST = sa.String(135)


def upgrade() -> None:
    op.create_table(
        "v1_sent_layers",
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("image_id", sa.String(64), nullable=False),
        sa.Column("checksum", _DIGEST, nullable=False),
        sa.Column("layer", _DIGEST, nullable=True),
        sa.Column("diff_id", _DIGEST, nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id", "image_id"],
            ["v1_images.repository_id", "v1_images.image_id"],
            name=op.f("fk_v1_sent_layers_repository_id_image_id_v1_images"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "image_id", "checksum", name=op.f("pk_v1_sent_layers")),
    )


def downgrade() -> None:
    op.drop_table("v1_sent_layers")
