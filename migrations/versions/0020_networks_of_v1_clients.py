"""The networks of V1 clients.

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.add_column("v1_clients", sa.Column("network", sa.String(64), nullable=False, server_default=""))
    op.create_index("ix_v1_clients_network", "v1_clients", ["network"])
    op.execute("UPDATE v1_clients SET network = address")  # until they are seen again


def downgrade() -> None:
    op.drop_index("ix_v1_clients_network", "v1_clients")
    op.drop_column("v1_clients", "network")
