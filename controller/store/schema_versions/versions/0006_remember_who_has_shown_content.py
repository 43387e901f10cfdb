"""Add what is remembered of who has shown which content, and what indexes lead to.

Copies of before count as public in the registry that they were first copied from, if that was done without a
login.
"""

import sqlalchemy as sa
from alembic import op

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
    (SELECT 'app:' || app_guid FROM bindings WHERE bindings.job_id = jobs.job_id ORDER BY number LIMIT 1), '')
WHERE state IN ('queued', 'copying')
"""


def upgrade() -> None:
    """Add a column to the jobs and three tables; which organizations open jobs are for is not known."""
    op.add_column("jobs", sa.Column("organization", sa.String(length=259), nullable=False, server_default=""))
    op.execute(_ORGANIZATIONS)
    proofs = op.create_table(
        "content_proofs",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("platform_digest", sa.String(length=135), nullable=False),
        sa.Column("domain", sa.String(length=300), nullable=False),
        sa.Column("login", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=1024), nullable=False),
        sa.Column("proven_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_content_proofs"),
    )
    op.create_index(
        "ix_content_proofs_platform_digest_domain", "content_proofs", ["platform_digest", "domain"]
    )
    op.create_table(
        "copy_attempts",
        sa.Column("platform_digest", sa.String(length=135), nullable=False),
        sa.Column("domain", sa.String(length=300), nullable=False),
        sa.Column("login", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("platform_digest", "domain", "login", name="pk_copy_attempts"),
    )
    op.create_table(
        "index_contents",
        sa.Column("root_digest", sa.String(length=135), nullable=False),
        sa.Column("platforms", sa.String(length=255), nullable=False),
        sa.Column("platform_digest", sa.String(length=135), nullable=False),
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
        op.bulk_insert(proofs, rows)


def _repository(source: str) -> str:
    domain, _, rest = source.partition("/")
    return f"{domain}/{rest.partition('@')[0].partition(':')[0]}"
