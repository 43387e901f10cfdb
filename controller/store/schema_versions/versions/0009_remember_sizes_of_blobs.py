"""Remember how large blobs are, which their digests say for ever."""

import sqlalchemy as sa

from controller.store.column_types import exact
from controller.store.schema_versions.steps import create_table

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table."""
    create_table(
        "blob_sizes",
        sa.Column("digest", exact(135), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_blob_sizes"),
    )
