"""Quotas, and what counts for them. Older versions neither obey nor count.

Revision ID: 0027
Revises: 0026
"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.create_table(
        "quotas",
        sa.Column("pattern", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("soft", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("pattern", name=op.f("pk_quotas")),
    )
    op.create_table(
        "quota_usage",
        sa.Column("pattern", sa.String(255), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("pattern", name=op.f("pk_quota_usage")),
    )
    op.create_table(
        "quota_links",
        sa.Column("pattern", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(135), nullable=False),
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("pattern", "digest", "repository_id", name=op.f("pk_quota_links")),
        sa.ForeignKeyConstraint(
            ["pattern"],
            ["quota_usage.pattern"],
            name=op.f("fk_quota_links_pattern_quota_usage"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repositories.id"],
            name=op.f("fk_quota_links_repository_id_repositories"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_quota_links_repository_id"), "quota_links", ["repository_id"])


def downgrade() -> None:
    for table in ("quota_links", "quota_usage", "quotas"):
        op.drop_table(table)
