"""Create the tables of jobs, bindings, images, the journal and LRP records."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "lrps",
        sa.Column("process_guid", sa.String(length=255), nullable=False),
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("rootfs", sa.Text(), nullable=False),
        sa.Column("cache_guid", sa.String(length=36), nullable=True),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("process_guid", name=op.f("pk_lrps")),
    )
    op.create_table(
        "migrations",
        sa.Column("process_guid", sa.String(length=255), nullable=False),
        sa.Column("cache_guid", sa.String(length=36), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("original", sa.LargeBinary(length=16777215), nullable=False),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=255), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("unknown_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("process_guid", name=op.f("pk_migrations")),
    )
    op.create_table(
        "reservations",
        sa.Column("cache_guid", sa.String(length=36), nullable=False),
        sa.Column("platform_digest", sa.String(length=135), nullable=False),
        sa.PrimaryKeyConstraint("cache_guid", name=op.f("pk_reservations")),
        sa.UniqueConstraint("platform_digest", name=op.f("uq_reservations_platform_digest")),
    )
    op.create_table(
        "images",
        sa.Column("cache_guid", sa.String(length=36), nullable=False),
        sa.Column("source", sa.String(length=1024), nullable=False),
        sa.Column("root_digest", sa.String(length=135), nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("verified_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cache_guid"], ["reservations.cache_guid"], name=op.f("fk_images_cache_guid_reservations")
        ),
        sa.PrimaryKeyConstraint("cache_guid", name=op.f("pk_images")),
    )
    op.create_table(
        "jobs",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(length=1024), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("needs_credentials", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=False),
        sa.Column("cache_guid", sa.String(length=36), nullable=True),
        sa.CheckConstraint(
            "state <> 'cached' OR cache_guid IS NOT NULL", name=op.f("ck_jobs_cached_has_guid")
        ),
        sa.ForeignKeyConstraint(
            ["cache_guid"], ["reservations.cache_guid"], name=op.f("fk_jobs_cache_guid_reservations")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_jobs")),
        sa.UniqueConstraint("job_id", name=op.f("uq_jobs_job_id")),
    )
    op.create_index(op.f("ix_jobs_state_created_at"), "jobs", ["state", "created_at"], unique=False)
    op.create_table(
        "bindings",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("requester", sa.String(length=260), nullable=False),
        sa.Column("app_guid", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(length=1024), nullable=False),
        sa.Column("staged_at", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("opted_in", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_bindings_job_id_jobs")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_bindings")),
        sa.UniqueConstraint("requester", name=op.f("uq_bindings_requester")),
    )
    op.create_index(
        op.f("ix_bindings_app_guid_staged_at"), "bindings", ["app_guid", "staged_at"], unique=False
    )
    op.create_index(op.f("ix_bindings_job_id"), "bindings", ["job_id"], unique=False)
    op.create_table(
        "blobs",
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("cache_guid", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(
            ["cache_guid"], ["images.cache_guid"], name=op.f("fk_blobs_cache_guid_images")
        ),
        sa.PrimaryKeyConstraint("digest", "cache_guid", name=op.f("pk_blobs")),
    )
