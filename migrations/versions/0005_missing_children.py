"""Children of indexes that are not pushed yet.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_DIGEST = sa.String(135)


def upgrade() -> None:
    op.create_table(
        "missing_children",
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("manifest", _DIGEST, nullable=False),
        sa.Column("child", _DIGEST, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id", "manifest"],
            ["manifests.repository_id", "manifests.digest"],
            name=op.f("fk_missing_children_repository_id_manifest_manifests"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "manifest", "child", name=op.f("pk_missing_children")),
    )
    op.create_index(
        op.f("ix_missing_children_repository_id_child"),
        "missing_children",
        ["repository_id", "child"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_table("missing_children")
