"""Add what migrations with a bridge need: more columns, original sources, images that need verification."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns with what open rows of the older version mean, and the new table."""
    with op.batch_alter_table("migrations", recreate="always") as table:
        table.add_column(sa.Column("goal", sa.String(length=16), nullable=False, server_default="cache"))
        table.add_column(
            sa.Column("strategy", sa.String(length=16), nullable=False, server_default="recreate")
        )
        table.add_column(sa.Column("entered_at", sa.Double(), nullable=False, server_default="0"))
        table.add_column(sa.Column("ended", sa.String(length=255), nullable=False, server_default=""))
        table.add_column(sa.Column("instance_guids", sa.Text(), nullable=True))
    op.create_table(
        "pending_verifications",
        sa.Column("cache_guid", sa.String(length=36), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cache_guid"], ["images.cache_guid"], name=op.f("fk_pending_verifications_cache_guid_images")
        ),
        sa.PrimaryKeyConstraint("cache_guid", name=op.f("pk_pending_verifications")),
    )
    op.create_table(
        "original_sources",
        sa.Column("process_guid", sa.String(length=255), nullable=False),
        sa.Column("cache_guid", sa.String(length=36), nullable=False),
        sa.Column("rootfs", sa.Text(), nullable=False),
        sa.Column("needs_credentials", sa.Boolean(), nullable=False),
        sa.Column("credentials", sa.LargeBinary(length=16777215), nullable=True),
        sa.PrimaryKeyConstraint("process_guid", name=op.f("pk_original_sources")),
    )
