"""Add what a migration remembers that may be turned back, or whose bridge is a stopgap."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns with what open rows of the older version mean."""
    with op.batch_alter_table("migrations", recreate="always") as table:
        table.add_column(sa.Column("detail", sa.Text(), nullable=True))
        table.add_column(sa.Column("is_stopgap", sa.Boolean(), nullable=False, server_default=sa.false()))
        for name in ("retired_at", "drained_at", "drain_sent_at", "routed_at", "synced_by"):
            table.add_column(sa.Column(name, sa.Double(), nullable=False, server_default="0"))
        table.add_column(sa.Column("way_back", sa.LargeBinary(length=16777215), nullable=True))
        # As it was: SQLite's default of '' would be read and written back as an expression, ('').
        table.alter_column(
            "ended",
            existing_type=sa.String(length=255),
            existing_nullable=False,
            server_default="",
        )
