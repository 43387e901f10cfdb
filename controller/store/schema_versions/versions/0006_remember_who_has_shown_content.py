"""Add what is remembered of who has shown which content, and what indexes lead to.

Copies of before count as public in the registry that they were first copied from, if that was done without a
login.
"""

import sqlalchemy as sa
from alembic import op

from controller.store.column_types import exact
from controller.store.schema_versions.steps import add_columns, create_index, create_table

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COPIED_WITHOUT_LOGIN = """
SELECT DISTINCT reservations.platform_digest, images.source, images.created_at
FROM images
JOIN reservations ON reservations.cache_guid = images.cache_guid
JOIN jobs ON jobs.cache_guid = images.cache_guid AND jobs.source = images.source
WHERE jobs.state = 'cached' AND NOT jobs.needs_credentials
    AND jobs.reason NOT IN ('copy-in-former-registry', 'repairing-copy')
"""

_ORGANIZATIONS = """
UPDATE jobs SET organization = coalesce(
    (SELECT {app} FROM bindings WHERE bindings.job_id = jobs.job_id ORDER BY number LIMIT 1), '')
WHERE state IN ('queued', 'copying')
"""

_PROOFS = sa.table(
    "content_proofs", *map(sa.column, ("platform_digest", "domain", "login", "source", "proven_at"))
)


def upgrade() -> None:
    """Add a column to the jobs and three tables; which organizations open jobs are for is not known."""
    add_columns("jobs", sa.Column("organization", exact(259), nullable=False, server_default=""))
    # To MySQL || means "or", and SQLite has no concat.
    is_mysql = op.get_bind().dialect.name == "mysql"
    op.execute(_ORGANIZATIONS.format(app="concat('app:', app_guid)" if is_mysql else "'app:' || app_guid"))
    create_table(
        "content_proofs",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("platform_digest", exact(135), nullable=False),
        sa.Column("domain", exact(300), nullable=False),
        sa.Column("login", exact(64), nullable=False),
        sa.Column("source", exact(1024), nullable=False),
        sa.Column("proven_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_content_proofs"),
    )
    create_index("ix_content_proofs_platform_digest_domain", "content_proofs", ["platform_digest", "domain"])
    create_table(
        "copy_attempts",
        sa.Column("platform_digest", exact(135), nullable=False),
        sa.Column("domain", exact(300), nullable=False),
        sa.Column("login", exact(64), nullable=False),
        sa.PrimaryKeyConstraint("platform_digest", "domain", "login", name="pk_copy_attempts"),
    )
    create_table(
        "index_contents",
        sa.Column("root_digest", exact(135), nullable=False),
        sa.Column("platforms", exact(255), nullable=False),
        sa.Column("platform_digest", exact(135), nullable=False),
        sa.PrimaryKeyConstraint("root_digest", "platforms", name="pk_index_contents"),
    )
    rows = [
        {
            "platform_digest": platform_digest,
            "domain": f"registry {source.partition('/')[0]}",
            "login": "",
            "source": _repository(source),
            "proven_at": created_at,
        }
        for platform_digest, source, created_at in op.get_bind().execute(sa.text(_COPIED_WITHOUT_LOGIN))
    ]
    if rows:
        op.bulk_insert(_PROOFS, rows)


def _repository(source: str) -> str:
    domain, _, rest = source.partition("/")
    return f"{domain}/{rest.partition('@')[0].partition(':')[0]}"
