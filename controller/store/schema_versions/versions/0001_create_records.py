"""Create the tables of jobs, bindings, images, the journal and LRP records."""

import sqlalchemy as sa
from alembic import op

from controller.store.column_types import exact, long_text
from controller.store.schema_versions.steps import create_index, create_table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    create_table(
        "lrps",
        sa.Column("process_guid", exact(255), nullable=False),
        sa.Column("app_guid", exact(255), nullable=False),
        sa.Column("rootfs", long_text(), nullable=False),
        sa.Column("cache_guid", exact(36), nullable=True),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("reason", long_text(), nullable=False),
        sa.Column("detail", long_text(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("process_guid", name=op.f("pk_lrps")),
    )
    create_table(
        "migrations",
        sa.Column("process_guid", exact(255), nullable=False),
        sa.Column("cache_guid", exact(36), nullable=False),
        sa.Column("phase", exact(16), nullable=False),
        sa.Column("original", sa.LargeBinary(length=16777215), nullable=False),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("run_id", exact(255), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("unknown_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("process_guid", name=op.f("pk_migrations")),
    )
    create_table(
        "reservations",
        sa.Column("cache_guid", exact(36), nullable=False),
        sa.Column("platform_digest", exact(135), nullable=False),
        sa.PrimaryKeyConstraint("cache_guid", name=op.f("pk_reservations")),
        sa.UniqueConstraint("platform_digest", name=op.f("uq_reservations_platform_digest")),
    )
    create_table(
        "images",
        sa.Column("cache_guid", exact(36), nullable=False),
        sa.Column("source", exact(1024), nullable=False),
        sa.Column("root_digest", exact(135), nullable=False),
        sa.Column("digest", exact(135), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("verified_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cache_guid"], ["reservations.cache_guid"], name=op.f("fk_images_cache_guid_reservations")
        ),
        sa.PrimaryKeyConstraint("cache_guid", name=op.f("pk_images")),
    )
    create_table(
        "jobs",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("job_id", exact(255), nullable=False),
        sa.Column("source", exact(1024), nullable=False),
        sa.Column("state", exact(16), nullable=False),
        sa.Column("reason", exact(255), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("needs_credentials", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("failure", long_text(), nullable=False),
        sa.Column("cache_guid", exact(36), nullable=True),
        sa.CheckConstraint(
            "state <> 'cached' OR cache_guid IS NOT NULL", name=op.f("ck_jobs_cached_has_guid")
        ),
        sa.ForeignKeyConstraint(
            ["cache_guid"], ["reservations.cache_guid"], name=op.f("fk_jobs_cache_guid_reservations")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_jobs")),
        sa.UniqueConstraint("job_id", name=op.f("uq_jobs_job_id")),
    )
    create_index("ix_jobs_state_created_at", "jobs", ["state", "created_at"])
    create_table(
        "bindings",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("requester", exact(260), nullable=False),
        sa.Column("app_guid", exact(255), nullable=False),
        sa.Column("source", exact(1024), nullable=False),
        sa.Column("staged_at", sa.BigInteger(), nullable=False),
        sa.Column("job_id", exact(255), nullable=False),
        sa.Column("opted_in", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_bindings_job_id_jobs")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_bindings")),
        sa.UniqueConstraint("requester", name=op.f("uq_bindings_requester")),
    )
    create_index("ix_bindings_app_guid_staged_at", "bindings", ["app_guid", "staged_at"])
    create_index("ix_bindings_job_id", "bindings", ["job_id"])
    create_table(
        "blobs",
        sa.Column("digest", exact(135), nullable=False),
        sa.Column("cache_guid", exact(36), nullable=False),
        sa.ForeignKeyConstraint(
            ["cache_guid"], ["images.cache_guid"], name=op.f("fk_blobs_cache_guid_images")
        ),
        sa.PrimaryKeyConstraint("digest", "cache_guid", name=op.f("pk_blobs")),
    )
