"""Failed logins by account, so that they can be forgotten, and where accounts have logged in.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.execute("DELETE FROM login_failures")  # they count for minutes, and cannot be told by account
    op.add_column("login_failures", sa.Column("account", sa.String(64), nullable=False, server_default=""))
    op.create_index("ix_login_failures_account", "login_failures", ["account"])
    op.create_table(
        "login_successes",
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_login_successes"),
    )
    op.create_index("ix_login_successes_at", "login_successes", ["at"])


def downgrade() -> None:
    op.drop_table("login_successes")
    op.drop_index("ix_login_failures_account", "login_failures")
    op.drop_column("login_failures", "account")
