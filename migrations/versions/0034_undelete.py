"""What was deleted and can be restored. Older versions neither record it nor keep its bytes.

Revision ID: 0034
Revises: 0033
"""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"

_DIGEST = sa.String(135)
_NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "deleted_repositories",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("began_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_deleted_repositories")),
    )
    op.create_table(
        "deleted_manifests",
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("media_type", sa.String, nullable=False),
        sa.Column("subject", _DIGEST, nullable=True),
        sa.Column("v1_view", sa.String(64), nullable=True),
        sa.Column("pushed_at", _INSTANT, nullable=False),
        sa.Column("deleted_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("repository", "digest", name=op.f("pk_deleted_manifests")),
    )
    op.create_table(
        "deleted_images",
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("image_id", sa.String(64), nullable=False),
        sa.Column("parent_id", sa.String(64), nullable=True),
        sa.Column("json", _DIGEST, nullable=False),
        sa.Column("layer", _DIGEST, nullable=False),
        sa.Column("diff_id", _DIGEST, nullable=False),
        sa.Column("checksum", _DIGEST, nullable=True),
        sa.Column("tarsum", sa.String(100), nullable=True),
        sa.Column("tarsum_verified", sa.Boolean, nullable=True),
        sa.Column("deleted_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("repository", "image_id", name=op.f("pk_deleted_images")),
    )
    op.create_table(
        "deleted_blobs",
        sa.Column("repository", _NAME, nullable=False),
        sa.Column("owner", sa.String(135), nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("deleted_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("repository", "owner", "digest", "role", name=op.f("pk_deleted_blobs")),
    )
    op.create_index("ix_deleted_repositories_began_at", "deleted_repositories", ["began_at"])
    op.create_index("ix_deleted_manifests_subject", "deleted_manifests", ["repository", "subject"])
    columns = ["repository", "deleted_at", "digest"]
    op.create_index("ix_deleted_manifests_time", "deleted_manifests", columns)
    op.create_index("ix_deleted_blobs_digest", "deleted_blobs", ["digest", "deleted_at"])
    for table in ("deleted_manifests", "deleted_images", "deleted_blobs"):
        op.create_index(f"ix_{table}_deleted_at", table, ["deleted_at"])


def downgrade() -> None:
    for table in ("deleted_blobs", "deleted_images", "deleted_manifests", "deleted_repositories"):
        op.drop_table(table)
