"""Note beside each binding the organization of its app, whose share of what is copied a job uses."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column; the organizations of bindings of before are not known."""
    op.add_column(
        "bindings", sa.Column("organization", sa.String(length=255), nullable=False, server_default="")
    )
