"""First tables.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_DIGEST = sa.String(135)
_NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("verified_at", _INSTANT, nullable=False),
        sa.Column("condemned_at", _INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_blobs")),
    )
    op.create_index(op.f("ix_blobs_condemned_at"), "blobs", ["condemned_at"], unique=False)
    op.create_index(op.f("ix_blobs_verified_at"), "blobs", ["verified_at"], unique=False)
    op.create_table(
        "repositories",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=False),
            nullable=False,
        ),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repositories")),
        sa.UniqueConstraint("name", name=op.f("uq_repositories_name")),
    )
    op.create_table(
        "repository_blobs",
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("linked_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["blobs.digest"], name=op.f("fk_repository_blobs_digest_blobs")),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repositories.id"],
            name=op.f("fk_repository_blobs_repository_id_repositories"),
        ),
        sa.PrimaryKeyConstraint("repository_id", "digest", name=op.f("pk_repository_blobs")),
    )
    op.create_index(op.f("ix_repository_blobs_digest"), "repository_blobs", ["digest"], unique=False)
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("digest_so_far", _DIGEST, nullable=True),
        sa.Column("lease", sa.String(length=36), nullable=True),
        sa.Column("lease_until", _INSTANT, nullable=True),
        sa.Column("started_at", _INSTANT, nullable=False),
        sa.Column("touched_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_uploads_repository_id_repositories")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index(op.f("ix_uploads_touched_at"), "uploads", ["touched_at"], unique=False)
    op.create_table(
        "manifests",
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("subject", _DIGEST, nullable=True),
        sa.Column("artifact_type", sa.String(), nullable=False),
        sa.Column("annotations", sa.JSON(), nullable=False),
        sa.Column("pushed_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id", "digest"],
            ["repository_blobs.repository_id", "repository_blobs.digest"],
            name=op.f("fk_manifests_repository_id_digest_repository_blobs"),
        ),
        sa.PrimaryKeyConstraint("repository_id", "digest", name=op.f("pk_manifests")),
    )
    op.create_index(
        "ix_manifests_subject", "manifests", ["repository_id", "subject", "pushed_at", "digest"], unique=False
    )
    op.create_index(
        "ix_manifests_typed",
        "manifests",
        ["repository_id", "subject", "artifact_type", "pushed_at", "digest"],
        unique=False,
    )
    op.create_table(
        "v1_images",
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("image_id", sa.String(length=64), nullable=False),
        sa.Column("parent_id", sa.String(length=64), nullable=True),
        sa.Column("json", _DIGEST, nullable=False),
        sa.Column("layer", _DIGEST, nullable=True),
        sa.Column("diff_id", _DIGEST, nullable=True),
        sa.Column("checksum", _DIGEST, nullable=True),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id", "json"],
            ["repository_blobs.repository_id", "repository_blobs.digest"],
            name=op.f("fk_v1_images_repository_id_json_repository_blobs"),
        ),
        sa.ForeignKeyConstraint(
            ["repository_id", "layer"],
            ["repository_blobs.repository_id", "repository_blobs.digest"],
            name=op.f("fk_v1_images_repository_id_layer_repository_blobs"),
        ),
        sa.PrimaryKeyConstraint("repository_id", "image_id", name=op.f("pk_v1_images")),
    )
    op.create_index(op.f("ix_v1_images_image_id"), "v1_images", ["image_id"], unique=False)
    op.create_index(
        op.f("ix_v1_images_repository_id_json"), "v1_images", ["repository_id", "json"], unique=False
    )
    op.create_index(
        op.f("ix_v1_images_repository_id_layer"), "v1_images", ["repository_id", "layer"], unique=False
    )
    op.create_index(
        op.f("ix_v1_images_repository_id_parent_id"),
        "v1_images",
        ["repository_id", "parent_id"],
        unique=False,
    )
    op.create_table(
        "manifest_children",
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("manifest", _DIGEST, nullable=False),
        sa.Column("child", _DIGEST, nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id", "child"],
            ["repository_blobs.repository_id", "repository_blobs.digest"],
            name=op.f("fk_manifest_children_repository_id_child_repository_blobs"),
        ),
        sa.ForeignKeyConstraint(
            ["repository_id", "manifest"],
            ["manifests.repository_id", "manifests.digest"],
            name=op.f("fk_manifest_children_repository_id_manifest_manifests"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "repository_id", "manifest", "child", "role", name=op.f("pk_manifest_children")
        ),
    )
    op.create_index(
        op.f("ix_manifest_children_repository_id_child"),
        "manifest_children",
        ["repository_id", "child"],
        unique=False,
    )
    op.create_table(
        "manifest_views",
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("manifest", _DIGEST, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("view", sa.String(length=135), nullable=True),
        sa.ForeignKeyConstraint(
            ["repository_id", "manifest"],
            ["manifests.repository_id", "manifests.digest"],
            name=op.f("fk_manifest_views_repository_id_manifest_manifests"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "manifest", "kind", name=op.f("pk_manifest_views")),
    )
    op.create_index(
        op.f("ix_manifest_views_repository_id_kind_view"),
        "manifest_views",
        ["repository_id", "kind", "view"],
        unique=False,
    )
    op.create_table(
        "tags",
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("manifest", _DIGEST, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("pulled_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["repository_id", "manifest"],
            ["manifests.repository_id", "manifests.digest"],
            name=op.f("fk_tags_repository_id_manifest_manifests"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "name", name=op.f("pk_tags")),
    )
    op.create_index(
        op.f("ix_tags_repository_id_manifest"), "tags", ["repository_id", "manifest"], unique=False
    )
    op.create_index(
        op.f("ix_tags_repository_id_updated_at_name"),
        "tags",
        ["repository_id", "updated_at", "name"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_tags_repository_id_updated_at_name"), table_name="tags")
    op.drop_index(op.f("ix_tags_repository_id_manifest"), table_name="tags")
    op.drop_table("tags")
    op.drop_index(op.f("ix_manifest_views_repository_id_kind_view"), table_name="manifest_views")
    op.drop_table("manifest_views")
    op.drop_index(op.f("ix_manifest_children_repository_id_child"), table_name="manifest_children")
    op.drop_table("manifest_children")
    op.drop_index(op.f("ix_v1_images_repository_id_parent_id"), table_name="v1_images")
    op.drop_index(op.f("ix_v1_images_repository_id_layer"), table_name="v1_images")
    op.drop_index(op.f("ix_v1_images_repository_id_json"), table_name="v1_images")
    op.drop_index(op.f("ix_v1_images_image_id"), table_name="v1_images")
    op.drop_table("v1_images")
    op.drop_index("ix_manifests_typed", table_name="manifests")
    op.drop_index("ix_manifests_subject", table_name="manifests")
    op.drop_table("manifests")
    op.drop_index(op.f("ix_uploads_touched_at"), table_name="uploads")
    op.drop_table("uploads")
    op.drop_index(op.f("ix_repository_blobs_digest"), table_name="repository_blobs")
    op.drop_table("repository_blobs")
    op.drop_table("repositories")
    op.drop_index(op.f("ix_blobs_verified_at"), table_name="blobs")
    op.drop_index(op.f("ix_blobs_condemned_at"), table_name="blobs")
    op.drop_table("blobs")
