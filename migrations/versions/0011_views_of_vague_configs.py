"""Look again at manifests that V1 clients could not use: their configs are judged by content since.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    # Docker schema 2, and the lists that may name such a manifest.
    op.execute(
        "DELETE FROM manifest_views WHERE kind = 'v1' AND view IS NULL AND EXISTS (SELECT 1 FROM manifests"
        " WHERE manifests.repository_id = manifest_views.repository_id"
        " AND manifests.digest = manifest_views.manifest AND manifests.media_type IN"
        " ('application/vnd.docker.distribution.manifest.v2+json',"
        " 'application/vnd.docker.distribution.manifest.list.v2+json',"
        " 'application/vnd.oci.image.index.v1+json'))"
    )


def downgrade() -> None:
    """Change nothing: what was derived is right for older versions too."""
