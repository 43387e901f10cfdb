"""Add what is remembered of copies that are looked after: where each lies, and what was last seen of it.

An open migration may only bring another login since this version.
"""

import sqlalchemy as sa

from controller.store.column_types import exact, long_text
from controller.store.schema_versions.steps import add_columns, create_table

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column to the copies and a table beside them; a copy without a row there was never looked at."""
    add_columns("images", sa.Column("registry", exact(255), nullable=False, server_default=""))
    renews_login: sa.Column[bool] = sa.Column(
        "renews_login", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    add_columns("migrations", renews_login)
    create_table(
        "copy_checks",
        sa.Column("cache_guid", exact(36), nullable=False),
        sa.Column("checked_at", sa.Double(), nullable=False),
        sa.Column("blobs_checked_at", sa.Double(), nullable=False),
        sa.Column("missing_since", sa.Double(), nullable=False),
        sa.Column("missing", long_text(), nullable=False),
        sa.Column("lost_since", sa.Double(), nullable=False),
        sa.Column("noted_at", sa.Double(), nullable=False),
        sa.Column("unused_since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cache_guid"], ["images.cache_guid"], name="fk_copy_checks_cache_guid_images"
        ),
        sa.PrimaryKeyConstraint("cache_guid", name="pk_copy_checks"),
    )
