"""Add the records of droplets."""

import sqlalchemy as sa

from controller.store.column_types import exact, long_text
from controller.store.schema_versions.steps import create_index, create_table

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_IMAGE_LENGTH = 1024


def upgrade() -> None:
    """Add a table."""
    create_table(
        "droplets",
        sa.Column("droplet_guid", exact(255), nullable=False),
        sa.Column("app_guid", exact(255), nullable=False),
        sa.Column("build_guid", exact(255), nullable=True),
        sa.Column("original", exact(_IMAGE_LENGTH), nullable=False),
        sa.Column("username", long_text(), nullable=False),
        sa.Column("cache_guid", exact(36), nullable=True),
        sa.Column("registry", exact(255), nullable=False),
        sa.Column("target", exact(_IMAGE_LENGTH), nullable=False),
        sa.Column("phase", exact(16), nullable=False),
        sa.Column("reason", exact(255), nullable=False),
        sa.Column("detail", long_text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("droplet_guid", name="pk_droplets"),
    )
    create_index("ix_droplets_app_guid", "droplets", ["app_guid"])
    create_index("ix_droplets_cache_guid", "droplets", ["cache_guid"])
