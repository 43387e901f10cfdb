"""Add what migrations with a bridge need: more columns, original sources, images that need verification."""

import sqlalchemy as sa
from alembic import op

from controller.store.column_types import exact, long_text
from controller.store.schema_versions.steps import create_table, recreate_with_columns

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns with what open rows of the older version mean, and the new table."""
    recreate_with_columns(
        "migrations",
        sa.Column("goal", exact(16), nullable=False, server_default="cache"),
        sa.Column("strategy", exact(16), nullable=False, server_default="recreate"),
        sa.Column("entered_at", sa.Double(), nullable=False, server_default="0"),
        sa.Column("ended", exact(255), nullable=False, server_default=""),
        sa.Column("instance_guids", long_text(), nullable=True),
    )
    create_table(
        "pending_verifications",
        sa.Column("cache_guid", exact(36), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cache_guid"], ["images.cache_guid"], name=op.f("fk_pending_verifications_cache_guid_images")
        ),
        sa.PrimaryKeyConstraint("cache_guid", name=op.f("pk_pending_verifications")),
    )
    create_table(
        "original_sources",
        sa.Column("process_guid", exact(255), nullable=False),
        sa.Column("cache_guid", exact(36), nullable=False),
        sa.Column("rootfs", long_text(), nullable=False),
        sa.Column("needs_credentials", sa.Boolean(), nullable=False),
        sa.Column("credentials", sa.LargeBinary(length=16777215), nullable=True),
        sa.PrimaryKeyConstraint("process_guid", name=op.f("pk_original_sources")),
    )
