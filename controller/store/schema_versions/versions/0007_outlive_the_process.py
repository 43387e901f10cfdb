"""Add what one process leaves to the next, and indexes for what is looked up in long tables."""

import sqlalchemy as sa
from alembic import op

from controller.store.column_types import exact, long_text
from controller.store.schema_versions.steps import create_index, create_table

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
    _create_stale_instances()
    _create_circuit_breakers()
    for table, indexes in _INDEXES.items():
        for columns in indexes:
            length = _INDEXED_LENGTH if columns == ["source"] else None
            create_index(f"ix_{table}_{'_'.join(columns)}", table, columns, mysql_length=length)
    if "ix_jobs_state_created_at" in {
        index["name"] for index in sa.inspect(op.get_bind()).get_indexes("jobs")
    }:
        op.drop_index("ix_jobs_state_created_at", "jobs")


def _create_stale_instances() -> None:
    create_table(
        "stale_instances",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("instance_guid", exact(255), nullable=False),
        sa.Column("process_guid", exact(255), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_stale_instances"),
        sa.UniqueConstraint("instance_guid", name="uq_stale_instances_instance_guid"),
    )
    create_index("ix_stale_instances_process_guid", "stale_instances", ["process_guid"])


def _create_circuit_breakers() -> None:
    create_table(
        "circuit_breakers",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("organization", exact(255), nullable=False),
        sa.Column("image", exact(36), nullable=False),
        sa.Column("causes", sa.LargeBinary(_PAYLOAD_LENGTH), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=True),
        sa.Column("last_failure", long_text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_circuit_breakers"),
        sa.UniqueConstraint("organization", "image", name="uq_circuit_breakers_organization_image"),
    )
