"""Declares the current schema; a test compares it with what the schema versions create.

Types are those that PostgreSQL and MySQL have too: every indexed text has a length that
fits MySQL's index limit of 3072 bytes, four for each character; times are doubles (a MySQL
FLOAT would lose the seconds) in UTC seconds since 1970; sizes in bytes and nanoseconds are 64-bit.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    false,
)

from controller.store.column_types import MYSQL_TABLE, exact, long_text, payload

GUID_LENGTH = 36
DIGEST_LENGTH = 135  # "sha512:" and 128 digits
KEY_LENGTH = 255  # process GUIDs and the like; the BBS's own column has 255
IMAGE_LENGTH = 1024  # host, port, 255 of path, 128 of tag, a digest
DOMAIN_LENGTH = 300  # "organization " or "registry ", and a GUID or a host
LOGIN_LENGTH = 64  # hex digits of a SHA-256
INDEXED_LENGTH = 255  # characters at the beginning of a longer text
PAYLOAD_LENGTH = 2**24 - 1  # MySQL's MEDIUMBLOB; without a length it would take 64 KiB
IS_SEALED = "is-sealed"
"""Marks a column of bytes: whether its values are encrypted with a journal key."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# A GUID is reserved for some content before anything is copied; a reservation alone is no image yet.
reservations = Table(
    "reservations",
    metadata,
    Column("cache_guid", exact(GUID_LENGTH), primary_key=True),
    Column("platform_digest", exact(DIGEST_LENGTH), nullable=False),
    UniqueConstraint("platform_digest"),
    **MYSQL_TABLE,
)

images = Table(
    "images",
    metadata,
    Column("cache_guid", exact(GUID_LENGTH), ForeignKey("reservations.cache_guid"), primary_key=True),
    Column("source", exact(IMAGE_LENGTH), nullable=False),
    Column("root_digest", exact(DIGEST_LENGTH), nullable=False),
    Column("digest", exact(DIGEST_LENGTH), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("verified_at", Double, nullable=False),
    # Address of the private registry that holds it; empty in rows of older versions, for the configured one.
    Column("registry", exact(KEY_LENGTH), nullable=False, server_default=""),
    Index(None, "created_at", "cache_guid"),
    Index(None, "root_digest"),
    **MYSQL_TABLE,
)

# Copies that need verification, because instances crashed from them.
pending_verifications = Table(
    "pending_verifications",
    metadata,
    Column("cache_guid", exact(GUID_LENGTH), ForeignKey("images.cache_guid"), primary_key=True),
    Column("since", Double, nullable=False),
    **MYSQL_TABLE,
)

# What checks last found of each copy in the private registry. A time of 0 means never, or no longer.
copy_checks = Table(
    "copy_checks",
    metadata,
    Column("cache_guid", exact(GUID_LENGTH), ForeignKey("images.cache_guid"), primary_key=True),
    Column("checked_at", Double, nullable=False),
    Column("blobs_checked_at", Double, nullable=False),
    Column("missing_since", Double, nullable=False),
    Column("missing", long_text(), nullable=False),
    Column("lost_since", Double, nullable=False),
    Column("noted_at", Double, nullable=False),
    Column("unused_since", Double, nullable=False),
    **MYSQL_TABLE,
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", exact(DIGEST_LENGTH), primary_key=True),
    Column("cache_guid", exact(GUID_LENGTH), ForeignKey("images.cache_guid"), primary_key=True),
    Index(None, "cache_guid"),
    **MYSQL_TABLE,
)

# How large blobs are, so that what several copies share is counted once. Copies of older versions have none.
blob_sizes = Table(
    "blob_sizes",
    metadata,
    Column("digest", exact(DIGEST_LENGTH), primary_key=True),
    Column("size", BigInteger, nullable=False),
    **MYSQL_TABLE,
)

# Which sources have shown the content of which copy, and who read it there: see reconcile.trust.
content_proofs = Table(
    "content_proofs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("platform_digest", exact(DIGEST_LENGTH), nullable=False),
    Column("domain", exact(DOMAIN_LENGTH), nullable=False),
    Column("login", exact(LOGIN_LENGTH), nullable=False),
    Column("source", exact(IMAGE_LENGTH), nullable=False),  # a repository; empty while nothing uses the copy
    Column("proven_at", Double, nullable=False),
    Index(None, "platform_digest", "domain"),
    **MYSQL_TABLE,
)

# Who has begun to copy which content: domain and login, as in `content_proofs`. Parts of the content may lie
# in the repository of its GUID since.
copy_attempts = Table(
    "copy_attempts",
    metadata,
    Column("platform_digest", exact(DIGEST_LENGTH), primary_key=True),
    Column("domain", exact(DOMAIN_LENGTH), primary_key=True),
    Column("login", exact(LOGIN_LENGTH), primary_key=True),
    **MYSQL_TABLE,
)

# What an index leads to for the platforms that were configured; its digest cannot mean anything else.
index_contents = Table(
    "index_contents",
    metadata,
    Column("root_digest", exact(DIGEST_LENGTH), primary_key=True),
    Column("platforms", exact(KEY_LENGTH), primary_key=True),
    Column("platform_digest", exact(DIGEST_LENGTH), nullable=False),
    Index(None, "platform_digest"),
    **MYSQL_TABLE,
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("job_id", exact(KEY_LENGTH), nullable=False),
    Column("source", exact(IMAGE_LENGTH), nullable=False),
    Column("state", exact(16), nullable=False),
    Column("reason", exact(KEY_LENGTH), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("needs_credentials", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Double),
    Column("failure", long_text(), nullable=False),
    Column("cache_guid", exact(GUID_LENGTH), ForeignKey("reservations.cache_guid")),
    # Of whoever asked first; "app:" and the GUID of the app where its organization is not known.
    Column("organization", exact(KEY_LENGTH + 4), nullable=False, server_default=""),
    UniqueConstraint("job_id"),
    CheckConstraint("state <> 'cached' OR cache_guid IS NOT NULL", name="cached_has_guid"),
    Index(None, "state", "created_at", "job_id"),
    # MySQL indexes the beginning only: 1024 characters may take more bytes than an index of it holds.
    Index(None, "source", mysql_length=INDEXED_LENGTH, mariadb_length=INDEXED_LENGTH),
    Index(None, "cache_guid"),
    **MYSQL_TABLE,
)

bindings = Table(
    "bindings",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("requester", exact(KEY_LENGTH + 5), nullable=False),  # "task:" and a GUID
    Column("app_guid", exact(KEY_LENGTH), nullable=False),
    Column("source", exact(IMAGE_LENGTH), nullable=False),
    Column("staged_at", BigInteger, nullable=False),  # nanoseconds since 1970, as the BBS has them
    Column("job_id", exact(KEY_LENGTH), ForeignKey("jobs.job_id"), nullable=False),
    Column("opted_in", Boolean, nullable=False),
    UniqueConstraint("requester"),
    # Without the source, which is too long for an index and of which an app has few.
    Index(None, "app_guid", "staged_at"),
    Index(None, "job_id"),
    **MYSQL_TABLE,
)

# Open migrations, see reconcile.migrations. No foreign key: the row that an app may be restored from is never
# refused because of another table.
migrations = Table(
    "migrations",
    metadata,
    Column("process_guid", exact(KEY_LENGTH), primary_key=True),
    Column("cache_guid", exact(GUID_LENGTH), nullable=False),
    Column("phase", exact(16), nullable=False),
    Column("original", payload(PAYLOAD_LENGTH), nullable=False, info={IS_SEALED: True}),
    Column("rounds", Integer, nullable=False),
    Column("run_id", exact(KEY_LENGTH), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("unknown_until", Double, nullable=False),
    Column("goal", exact(16), nullable=False, server_default="cache"),
    Column("strategy", exact(16), nullable=False, server_default="recreate"),
    Column("entered_at", Double, nullable=False, server_default="0"),
    Column("ended", exact(KEY_LENGTH), nullable=False, server_default=""),
    Column("instance_guids", long_text()),  # separated by spaces; MySQL has no default for a TEXT
    Column("detail", long_text()),
    Column("is_stopgap", Boolean, nullable=False, server_default=false()),
    Column("retired_at", Double, nullable=False, server_default="0"),
    Column("drained_at", Double, nullable=False, server_default="0"),
    Column("drain_sent_at", Double, nullable=False, server_default="0"),
    Column("routed_at", Double, nullable=False, server_default="0"),
    Column("synced_by", Double, nullable=False, server_default="0"),
    Column("way_back", payload(PAYLOAD_LENGTH), info={IS_SEALED: True}),
    Column("renews_login", Boolean, nullable=False, server_default=false()),
    **MYSQL_TABLE,
)

# What LRPs ran from before they were migrated.
original_sources = Table(
    "original_sources",
    metadata,
    Column("process_guid", exact(KEY_LENGTH), primary_key=True),
    Column("cache_guid", exact(GUID_LENGTH), nullable=False),
    Column("rootfs", long_text(), nullable=False),
    Column("needs_credentials", Boolean, nullable=False),
    Column("credentials", payload(PAYLOAD_LENGTH), info={IS_SEALED: True}),  # none without a journal key
    **MYSQL_TABLE,
)

lrps = Table(
    "lrps",
    metadata,
    Column("process_guid", exact(KEY_LENGTH), primary_key=True),
    Column("app_guid", exact(KEY_LENGTH), nullable=False),
    Column("rootfs", long_text(), nullable=False),
    Column("cache_guid", exact(GUID_LENGTH)),
    Column("rounds", Integer, nullable=False),
    Column("reason", long_text(), nullable=False),
    Column("detail", long_text(), nullable=False),
    Column("updated_at", Double, nullable=False),
    Index(None, "app_guid"),
    **MYSQL_TABLE,
)

# Droplets of Cloud Controller that name a copy, are to name one, or did. No foreign key, as in `migrations`.
droplets = Table(
    "droplets",
    metadata,
    Column("droplet_guid", exact(KEY_LENGTH), primary_key=True),
    Column("app_guid", exact(KEY_LENGTH), nullable=False),
    Column("build_guid", exact(KEY_LENGTH)),
    Column("original", exact(IMAGE_LENGTH), nullable=False),
    Column("username", long_text(), nullable=False),
    Column("cache_guid", exact(GUID_LENGTH)),
    Column("registry", exact(KEY_LENGTH), nullable=False),
    Column("target", exact(IMAGE_LENGTH), nullable=False),
    Column("phase", exact(16), nullable=False),
    Column("reason", exact(KEY_LENGTH), nullable=False),
    Column("detail", long_text(), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("rounds", Integer, nullable=False),
    Column("not_before", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index(None, "app_guid"),
    Index(None, "cache_guid"),
    **MYSQL_TABLE,
)

# Instances of removed definitions of LRPs; one that still runs must not be taken for an instance of the new
# definition.
stale_instances = Table(
    "stale_instances",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("instance_guid", exact(KEY_LENGTH), nullable=False),
    Column("process_guid", exact(KEY_LENGTH), nullable=False),
    UniqueConstraint("instance_guid"),
    Index(None, "process_guid"),
    **MYSQL_TABLE,
)

# Failures in a row of migrations: of all, of organizations, and of copies. The row of the latest failure has
# the greatest number; an empty organization or image means any.
circuit_breakers = Table(
    "circuit_breakers",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("organization", exact(KEY_LENGTH), nullable=False),
    Column("image", exact(GUID_LENGTH), nullable=False),
    Column("causes", payload(PAYLOAD_LENGTH), nullable=False, info={IS_SEALED: False}),  # JSON
    Column("opened_at", Double),
    Column("last_failure", long_text(), nullable=False),
    UniqueConstraint("organization", "image"),
    **MYSQL_TABLE,
)

settings = Table(
    "settings",
    metadata,
    Column("name", exact(KEY_LENGTH), primary_key=True),
    Column("value", long_text(), nullable=False),
    **MYSQL_TABLE,
)

# Apps that an operator pinned to their sources.
pins = Table("pins", metadata, Column("app_guid", exact(KEY_LENGTH), primary_key=True), **MYSQL_TABLE)

# What operators did; the oldest rows are deleted.
audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("caller", long_text(), nullable=False),
    Column("call", exact(KEY_LENGTH), nullable=False),
    Column("arguments", long_text(), nullable=False),
    Column("outcome", long_text(), nullable=False),
    **MYSQL_TABLE,
)
