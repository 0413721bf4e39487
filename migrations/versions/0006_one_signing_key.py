"""One signing key for each purpose.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    # Concurrent processes may each have created a key; all of them read the oldest later.
    op.execute(
        """
        UPDATE signing_keys SET retired_at = CURRENT_TIMESTAMP
        WHERE retired_at IS NULL AND EXISTS (
            SELECT 1 FROM signing_keys AS older
            WHERE older.purpose = signing_keys.purpose AND older.retired_at IS NULL
            AND (older.created_at < signing_keys.created_at
                 OR (older.created_at = signing_keys.created_at AND older.kid < signing_keys.kid))
        )
        """
    )
    op.create_index(
        "uq_signing_keys_purpose",
        "signing_keys",
        ["purpose"],
        unique=True,
        sqlite_where=sa.text("retired_at IS NULL"),
        postgresql_where=sa.text("retired_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("uq_signing_keys_purpose", table_name="signing_keys")
