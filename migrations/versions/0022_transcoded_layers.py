"""The gzip editions of layers that are compressed with zstd.

Revision ID: 0022
Revises: 0021
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
# What is deleted below is found out again, by older versions as it was.
oldest = "0020"


def upgrade() -> None:
    op.create_table(
        "transcoded_layers",
        sa.Column("source", sa.String(length=135), nullable=False),
        sa.Column("digest", sa.String(length=135)),
        sa.Column("made_by", sa.String(length=64)),
        sa.Column("lease", sa.String(length=36)),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("process", sa.String(length=100), nullable=False, server_default=""),
        *(
            sa.ForeignKeyConstraint(
                [column],
                ["blobs.digest"],
                name=op.f(f"fk_transcoded_layers_{column}_blobs"),
                ondelete="CASCADE",
            )
            for column in ("source", "digest")
        ),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_transcoded_layers")),
    )
    # V1 clients can use images with zstd layers from now on.
    op.execute(
        "DELETE FROM manifest_views WHERE kind = 'v1' AND view IS NULL AND EXISTS (SELECT 1 FROM manifests"
        " WHERE manifests.repository_id = manifest_views.repository_id"
        " AND manifests.digest = manifest_views.manifest AND manifests.media_type IN"
        " ('application/vnd.docker.distribution.manifest.v2+json',"
        " 'application/vnd.docker.distribution.manifest.list.v2+json',"
        " 'application/vnd.oci.image.manifest.v1+json',"
        " 'application/vnd.oci.image.index.v1+json'))"
    )
    op.create_index(op.f("ix_transcoded_layers_digest"), "transcoded_layers", ["digest"])


def downgrade() -> None:
    op.drop_index(op.f("ix_transcoded_layers_digest"), table_name="transcoded_layers")
    op.drop_table("transcoded_layers")
