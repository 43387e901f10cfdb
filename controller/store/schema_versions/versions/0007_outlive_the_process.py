"""Add what one process leaves to the next, and indexes for what is looked up in long tables.

Each step looks first whether it was done: MySQL keeps the tables and indexes of a migration that was killed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_PAYLOAD_LENGTH = 2**24 - 1
_INDEXED_LENGTH = 255

_INDEXES = {
    "images": [["created_at", "cache_guid"], ["root_digest"]],
    "blobs": [["cache_guid"]],
    "jobs": [["state", "created_at", "job_id"], ["source"], ["cache_guid"]],
    "index_contents": [["platform_digest"]],
    "lrps": [["app_guid"]],
}


def upgrade() -> None:
    """Add two tables and the indexes; the index of jobs by state and time is replaced by a longer one."""
    found = sa.inspect(op.get_bind())
    tables = set(found.get_table_names())
    if "stale_instances" not in tables:
        _create_stale_instances()
    if "circuit_breakers" not in tables:
        _create_circuit_breakers()
    for table, indexes in _INDEXES.items():
        known = {index["name"] for index in found.get_indexes(table)}
        for columns in indexes:
            name = f"ix_{table}_{'_'.join(columns)}"
            length = _INDEXED_LENGTH if columns == ["source"] else None
            if name not in known:
                op.create_index(name, table, columns, mysql_length=length, mariadb_length=length)
    if "ix_jobs_state_created_at" in {index["name"] for index in found.get_indexes("jobs")}:
        op.drop_index("ix_jobs_state_created_at", "jobs")


def _create_stale_instances() -> None:
    op.create_table(
        "stale_instances",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("instance_guid", sa.String(length=255), nullable=False),
        sa.Column("process_guid", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_stale_instances"),
        sa.UniqueConstraint("instance_guid", name="uq_stale_instances_instance_guid"),
        sa.Index("ix_stale_instances_process_guid", "process_guid"),
    )


def _create_circuit_breakers() -> None:
    op.create_table(
        "circuit_breakers",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("organization", sa.String(length=255), nullable=False),
        sa.Column("image", sa.String(length=36), nullable=False),
        sa.Column("causes", sa.LargeBinary(_PAYLOAD_LENGTH), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=True),
        sa.Column("last_failure", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_circuit_breakers"),
        sa.UniqueConstraint("organization", "image", name="uq_circuit_breakers_organization_image"),
    )
