"""What can go wrong in other systems, sorted by what a caller should do about it.

Adapters turn their system's errors into these in one function each; the
system and its own code travel along as fields.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from reconcile.foreign_text import one_line, reason_text

MAX_CODE = 128
"""Characters of an error's code, some of which are the words of other systems."""


class Verdict(StrEnum):
    """What a caller may do after a refusal."""

    FINAL = "final"
    """The same request will be refused again."""
    AGAIN = "again"
    """The same request may succeed later."""
    OTHER_WAY = "other way"
    """Another request may reach the same goal; where there is none left, the refusal is final."""


class ErrorCode(StrEnum):
    """The codes that code compares; any other code is only shown.

    Their values are shown too, and some are stored in records, so they do not change.
    """

    # Config and the files that it names
    BAD_AUTH_FILE = "bad-auth-file"
    BAD_REGISTRY_ADDRESS = "bad-registry-address"
    """No image reference names a registry by this address."""
    UNREADABLE_FILE = "unreadable-file"

    # BBS
    BBS_CERTIFICATE_REFUSED = "CertificateRefused"
    BBS_TIMEOUT = "Timeout"
    CONNECTION_FAILED = "ConnectionFailed"
    OTHER_STORE_ACTIVE = "other-store-active"
    """A daemon with another store works on the same BBS."""
    UNREADABLE_LRPS = "unreadable-lrps"

    # Cloud Controller and UAA
    BAD_ANSWER = "bad-answer"
    """It reports success, and is not what it should be."""
    CLOUD_CONTROLLER_BUDGET_SPENT = "cloud-controller-budget-spent"
    """As many requests were sent as may be for now."""
    CLOUD_CONTROLLER_FAILED = "cloud-controller-failed"
    """It failed, or the droplet to be changed is not staged or not of Docker: it answers both alike."""
    CLOUD_CONTROLLER_LINK_REFUSED = "cloud-controller-link-refused"
    """It leads to where neither the client's secret nor its token is sent."""
    CLOUD_CONTROLLER_QUERY_REFUSED = "cloud-controller-query-refused"
    """It does not take the parameters of a list, or shows no page so far from the first."""
    CLOUD_CONTROLLER_REFUSED = "cloud-controller-refused"
    CLOUD_CONTROLLER_SCOPE_MISSING = "cloud-controller-scope-missing"
    CLOUD_CONTROLLER_TOKEN_REFUSED = "cloud-controller-token-refused"  # noqa: S105 - a code
    NOT_ASKED = "not-asked"
    """A plan has asked for as many single resources as it may."""
    UAA_CLIENT_REFUSED = "uaa-client-refused"

    # Registries
    ADDRESS_REFUSED = "address-refused"
    """The host has an address that images must not be fetched from."""
    BAD_CREDENTIALS = "bad-credentials"
    BUSY = "busy"
    """As many connections to the host are in use as the operator allows."""
    CERTIFICATE = "certificate"
    CONNECTION = "connection"
    CUT = "cut"
    """The body ended before its last byte."""
    DIGEST_MISMATCH = "digest-mismatch"
    DISK_FULL = "disk-full"
    FEW_PULLS_LEFT = "few-pulls-left"
    """The host counts pulls, and hardly any is left for now."""
    LIMITED = "limited"
    """The host was not even asked, since it has refused requests as too many."""
    NO_TLS = "no-tls"
    NO_ECR_EXCHANGE = "no-ecr-exchange"
    """The login is an AWS access key, and nothing is installed that exchanges it."""
    NOT_REPAIRED = "not-repaired"
    """The private registry keeps bytes that are wrong although the right ones were sent again."""
    NOT_VERIFIED = "not-verified"
    """What was stored does not read back as it was sent."""
    ORIGIN_REFUSED = "origin-refused"
    """The registry leads to another registry of the config, which a session of its own alone may ask."""
    OUT_OF_RESOURCES = "out-of-resources"
    """This process, or its machine, has no file descriptor, port or memory left for a connection."""
    QUOTA_EXCEEDED = "quota-exceeded"
    """The registry's own limit on what it stores is reached."""
    READ_ONLY = "read-only"
    REALM_REFUSED = "realm-refused"
    """The registry names a token server that no login is sent to."""
    REDIRECT_REFUSED = "redirect-refused"
    SIZE_MISMATCH = "size-mismatch"
    STORAGE_FAILED = "storage-failed"
    """The registry cannot write its files, or the disk has errors."""
    TIMEOUT = "timeout"
    TOKEN_EXPIRED = "token-expired"  # noqa: S105 - a code
    TOO_SLOW = "too-slow"
    UNAVAILABLE = "unavailable"
    """The host was not even asked, since it wants to be left alone."""
    UNKNOWN_HOST = "unknown-host"
    UPLOAD_FAILED = "upload-failed"

    # Images
    CANNOT_RUN_ON_CELLS = "cannot-run-on-cells"
    """Cells refuse it, wherever they pull it from."""
    IMAGE_TOO_LARGE = "image-too-large"
    INDEX_TOO_LARGE = "index-too-large"
    MANIFEST_TOO_LARGE = "manifest-too-large"
    TOO_MANY_LAYERS = "too-many-layers"

    # Docker daemon
    DAEMON_CERTIFICATE_REFUSED = "certificate-refused"
    """It does not accept the certificate of a registry."""
    DAEMON_DISK_FULL = "daemon-disk-full"

    # Registries, as the OCI distribution specification names them
    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DENIED = "DENIED"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    RANGE_INVALID = "RANGE_INVALID"
    SIZE_INVALID = "SIZE_INVALID"
    TOO_MANY_REQUESTS = "TOOMANYREQUESTS"
    UNAUTHORIZED = "UNAUTHORIZED"
    UNSUPPORTED = "UNSUPPORTED"

    # Leadership
    LOCK_HELD = "lock-held"
    """Another instance holds the lock."""
    NOT_ACTIVE = "not-active"
    """This process is not the active instance, or not any more."""

    # Store
    DATABASE_MISSING = "database-missing"
    SCHEMA_FOREIGN = "schema-foreign"
    SCHEMA_MISSING = "schema-missing"
    SCHEMA_OLDER = "schema-older"

    # Cache jobs
    ASKED_IN_TURN = "asked-in-turn"
    """It waits, since others come first: it only asks whether a tag has moved."""
    NOT_WANTED = "not-wanted"
    GAVE_UP = "gave-up"
    """Somebody did not answer in any attempt."""
    CREDENTIALS_LOST = "credentials-lost"
    """The daemon restarted, and nobody has brought the credentials of a queued job again."""
    TOOK_TOO_LONG = "took-too-long"
    """The time that a job may take in all is over."""
    FAILED_BYTES = "failed-bytes"
    """The organization's failed copies have transferred as many bytes as they may in a day."""
    SOURCE_UNREACHABLE = "source-unreachable"
    """The source registry did not say what a reference means; what it did is in the detail."""


@dataclass(eq=False)
class DockerCacheError(Exception):
    """A call to another system failed.

    Attributes:
        system: "bbs", "cloud-controller", "uaa", "locket", "loggregator", "registry", "docker" or "store"; or
            "admin", "cacher", "config", "image", "leadership" or "plan", of what this program found itself.
        code: That system's own code, such as "MANIFEST_UNKNOWN"; an `ErrorCode` where code compares it.
        detail: One line for an operator, of at most 1024 characters; never holds credentials.
        moved: Bytes that were moved for a copy before it failed.
        verdict: What the other system's answer leaves to be done; None where nothing was answered, or where
            nobody has to know.
    """

    system: str
    code: str
    detail: str
    moved: int = field(default=0, init=False)
    verdict: Verdict | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Bound what is shown and kept, whatever other systems' texts a message was made of."""
        self.code, self.detail = one_line(self.code, MAX_CODE), reason_text(self.detail)
        self.args = (self.system, self.code, self.detail)  # a text without a bound is not held

    def __str__(self) -> str:
        return f"{self.system}: {self.code}: {self.detail}"


@dataclass(eq=False)
class Unavailable(DockerCacheError):
    """Again later, unchanged: timeout, lost connection, 5xx."""

    retry_after: float | None = None
    """Seconds, where the server named a time."""
    may_have_happened: bool = True
    """Whether the request may have taken effect, or may still do so."""


@dataclass(eq=False)
class RateLimited(Unavailable):
    """429: later, and not at once, since each try spends quota."""


class LeaseLost(Unavailable):
    """Another instance may be active: nothing was done, and this process must not do it later either."""

    def __init__(self, why: str) -> None:
        super().__init__("leadership", ErrorCode.NOT_ACTIVE, why, may_have_happened=False)


class NotFound(DockerCacheError):
    """It is not there: usually an answer, not a failure."""


class Conflict(DockerCacheError):
    """It changed under us: observe again, then plan again."""


class Denied(DockerCacheError):
    """401 or 403: nothing helps until somebody changes credentials."""


class Invalid(DockerCacheError):
    """The request or the data is wrong: record it, do not retry."""
