"""Content of other registries: repositories that hold it, when tags were checked, and blobs still to come.

Older versions go on with the other key of ``missing_children``: they name it nowhere.

Revision ID: 0023
Revises: 0022
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"

_KEY = ["repository_id", "manifest", "child"]


def upgrade() -> None:
    op.add_column("repositories", sa.Column("upstream", sa.Text, nullable=True))
    op.add_column("tags", sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True))
    role = sa.Column("role", sa.String(16), nullable=False, server_default="manifest")
    op.add_column("missing_children", role)
    _change_key([*_KEY, "role"])


def downgrade() -> None:
    """Forget the blobs that are still to come: no older version knows how to get them."""
    op.execute("DELETE FROM missing_children WHERE role <> 'manifest'")
    _change_key(_KEY)
    op.drop_column("missing_children", "role")
    op.drop_column("tags", "checked_at")
    op.drop_column("repositories", "upstream")


def _change_key(columns: list[str]) -> None:
    name = op.f("pk_missing_children")
    with op.batch_alter_table("missing_children") as table:
        table.drop_constraint(name, type_="primary")
        table.create_primary_key(name, columns)
