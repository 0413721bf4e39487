"""Accounts of people who log in by an OpenID Connect issuer. Older versions let their keys log in for ever.

Revision ID: 0032
Revises: 0031
"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    name = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
    op.add_column("accounts", sa.Column("login_ends_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "account_subjects",
        sa.Column("issuer", name, nullable=False),
        sa.Column("subject", name, nullable=False),
        sa.Column("account", name, nullable=False),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_account_subjects")),
        sa.UniqueConstraint("account", name=op.f("uq_account_subjects_account")),
    )
    op.create_table(
        "claimed_groups",
        sa.Column("account", name, nullable=False),
        sa.Column("group_name", name, nullable=False),
        sa.PrimaryKeyConstraint("account", "group_name", name=op.f("pk_claimed_groups")),
    )


def downgrade() -> None:
    op.drop_table("claimed_groups")
    op.drop_table("account_subjects")
    op.drop_column("accounts", "login_ends_at")
