"""Add what a migration remembers that may be turned back, or whose bridge is a stopgap."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from controller.store.column_types import exact, long_text
from controller.store.schema_versions.steps import add_columns

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns with what open rows of the older version mean."""
    columns: tuple[sa.Column[Any], ...] = (
        sa.Column("detail", long_text(), nullable=True),
        sa.Column("is_stopgap", sa.Boolean(), nullable=False, server_default=sa.false()),
        *(
            sa.Column(name, sa.Double(), nullable=False, server_default="0")
            for name in ("retired_at", "drained_at", "drain_sent_at", "routed_at", "synced_by")
        ),
        sa.Column("way_back", sa.LargeBinary(length=16777215), nullable=True),
    )
    if op.get_bind().dialect.name != "sqlite":
        add_columns("migrations", *columns)
        return
    with op.batch_alter_table("migrations", recreate="always") as table:
        for column in columns:
            table.add_column(column)
        # As it was: SQLite's default of '' would be read and written back as an expression, ('').
        table.alter_column(
            "ended",
            existing_type=exact(255),
            existing_nullable=False,
            server_default="",
        )
