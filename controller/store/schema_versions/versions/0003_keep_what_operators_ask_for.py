"""Add what operators ask for and did: settings such as "paused", apps held on their sources, the audit."""

import sqlalchemy as sa
from alembic import op

from controller.store.column_types import exact, long_text
from controller.store.schema_versions.steps import create_table

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the three tables."""
    create_table(
        "settings",
        sa.Column("name", exact(255), nullable=False),
        sa.Column("value", long_text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_settings")),
    )
    create_table(
        "pins",
        sa.Column("app_guid", exact(255), nullable=False),
        sa.PrimaryKeyConstraint("app_guid", name=op.f("pk_pins")),
    )
    create_table(
        "audit",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("caller", long_text(), nullable=False),
        sa.Column("call", exact(255), nullable=False),
        sa.Column("arguments", long_text(), nullable=False),
        sa.Column("outcome", long_text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
    )
