"""Everything an operator can set, as one value."""

from ipaddress import IPv4Network, IPv6Network
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from controller.config.admin import AdminConfig
from controller.config.sections import RegistryConfig, RunningRuleConfig, TrafficConfig
from controller.config.values import Address, Duration, NonNegativeDuration, ReadableFile, SecretFile, Size
from reconcile.errors import Invalid
from reconcile.images import CacheRepositories
from reconcile.policy import CacheMode, MigrateRunning, Policy, RunningPolicy, RunningRule


class Config(AdminConfig):
    """Everything an operator can set."""

    log_level: Literal["debug", "info", "error", "fatal"] = "info"
    """Log lines of this level and above are written."""
    metrics_address: Address | None = None
    """Where a scraper reads metrics, "host:port"; none when absent."""
    start_paused: bool = False
    """A store that is new begins paused: nothing is copied or moved before an operator says `resume` or
    applies a plan."""

    bbs_address: str = Field(pattern=r"^https://[^/\s]+/?$")
    """URL of the BBS, such as "https://bbs.service.cf.internal:8889"."""
    bbs_ca_cert_file: ReadableFile
    """CA certificates that the BBS's certificate must chain to, in PEM."""
    bbs_client_cert_file: ReadableFile
    """Certificate to present to the BBS, in PEM."""
    bbs_client_key_file: ReadableFile
    """Key of that certificate, in PEM."""
    communication_timeout: Duration = 30.0
    """Total time of one request to the BBS."""
    sync_interval: Duration = 30.0
    """Time between two listings of the BBS."""

    database_url: str
    """Where jobs, images and bindings are kept, such as "sqlite:////var/vcap/store/docker-cache/cache.db"."""
    journal_key_file: SecretFile | None = None
    """File with one or more keys for the journal of migrations, one a line; the first encrypts.
    Without it the journal is kept in memory only, and no LRP is moved while it runs."""

    cache_registry: RegistryConfig
    """The private registry; its address is what cells pull from."""
    cache_repository_template: str = "{guid}:latest"
    """Repository and tag of a cached image; "docker-cache:{guid}" for registries that do not create
    repositories on push."""
    cache_pull_username: str | None = Field(default=None, min_length=1)
    """User name that cells get for the private registry; together with `cache_pull_password_file`."""
    cache_pull_password_file: SecretFile | None = None
    """File that holds the password for it."""

    registries: tuple[RegistryConfig, ...] = ()
    """Source registries that need more than HTTPS with a public certificate."""
    allowed_source_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Private networks, such as "10.0.16.0/24", that source registries may lie in; public addresses
    are always allowed."""

    registry_auth_file: ReadableFile | None = None
    """Logins in docker's format (auths, credHelpers, credsStore) for images that come without any and
    whose registry has none above; read again when it changes. Helpers are found on PATH."""
    credential_helper_timeout: Duration = 10.0
    """Time that one of the credential helpers named there may take; then it knows no login."""
    registry_traffic: TrafficConfig = TrafficConfig()
    """Limits of the traffic to each host that has none of its own."""
    rate_limit_floor: int = Field(default=10, ge=0)
    """Pulls left, as a registry tells, at which manifests are read no faster than it allows for ever;
    at most a tenth of its limit."""

    cache: CacheMode = CacheMode.ALL
    """Whose images are cached: "all", "opt_in" (DIEGO_DOCKER_CACHE=true), "opt_out" (unless false)."""
    allow_images: tuple[str, ...] = ()
    """Globs over full references, such as "docker.io/library/*"; empty allows all."""
    deny_images: tuple[str, ...] = ()
    """Globs over full references that are never cached."""
    lrp_domains: tuple[str, ...] = Field(default=("cf-apps",), min_length=1)
    """Only desired LRPs of these domains are touched."""

    engine: Literal["registry", "docker"] = "registry"
    """How images are copied: "registry" from registry to registry, "docker" through a docker daemon."""
    docker_socket: str | None = Field(default=None, pattern=r"^unix:///")
    """Where that daemon listens, such as "unix:///var/run/docker.sock"; for engine "docker" alone."""
    platforms: str = Field(
        default="linux/amd64", pattern=r"^(all|[a-z0-9]+(\([0-9.]+\))?/[a-z0-9]+(/[a-z0-9]+)?)$"
    )
    """Platform that is copied out of an index, "os[(version)]/architecture[/variant]" such as
    "windows(10.0.17763)/amd64", or "all" for the whole index."""
    max_copies: int = Field(default=4, ge=1, le=64)
    """Images copied at the same time."""
    max_blobs_per_copy: int = Field(default=8, ge=1, le=32)
    """Layers of one image copied at the same time."""
    max_image_bytes: Size = 50 << 30
    """Larger images are not cached."""
    max_layers: int = Field(default=500, ge=1)
    """Images of more layers are not cached."""
    registry_timeout: Duration = 60.0
    """Time without a byte after which a transfer is given up."""
    blob_grace: Duration = 60.0
    """Time that moving a layer may take in any case, before `min_bytes_per_second` counts."""
    min_bytes_per_second: Size = 16 << 10
    """Bytes per second below which moving a layer is given up; lower where traffic is limited."""
    verify: Literal["digest", "full"] = "digest"
    """How a copy is proved: "digest" by what the private registry says of it, "full" by reading every
    layer back."""
    copy_foreign_layers: bool = False
    """Fetch layers that lie outside of registries, as those of Windows do, from where their manifest
    says, if the private registry does not take the manifest without them."""
    copy_referrers: bool = False
    """Copy signatures, attestations and whatever else refers to an image."""

    max_in_flight: int = Field(default=10, ge=1)
    """LRPs that are being replaced at the same time."""
    migrate_running: MigrateRunning = MigrateRunning.BRIDGE
    """Whether an LRP is moved while it runs: "bridge" runs a second set of instances meanwhile, "never"
    waits until none runs."""
    migrate_running_rules: tuple[RunningRuleConfig, ...] = ()
    """Exceptions from that; the first one that matches decides."""
    bridge_timeout: Duration = 300.0
    """Time that the second set of instances gets to run, pull included; then the LRP stays as it is."""
    start_timeout: Duration = 300.0
    """Time that the LRP's own instances get to run again; then that counts as a failure."""
    route_propagation_delay: NonNegativeDuration = 5.0
    """Time between "it runs" and "routers send it requests", before what it stands in for is removed."""
    max_consecutive_failures: int = Field(default=3, ge=1)
    """Failed migrations in a row after which none is begun any more."""
    circuit_retry_after: Duration = 600.0
    """Time after which a single one is tried again; signal USR1 lets all go on at once."""
    restore_after: Duration | None = None
    """Time without an answer from the private registry after which LRPs are moved back to their sources,
    and with answers after which they are moved to it again; never when absent."""
    workers: int = Field(default=8, ge=1, le=128)
    """LRPs looked at at the same time."""
    cloud_controller_sync_grace: Duration = Field(default=180.0, ge=130.0)
    """After a restart in mid-migration: how long Cloud Controller gets to desire again what should
    exist. Longer than the two minutes that its domain stays fresh, at least 130 seconds."""

    @field_validator("database_url")
    @classmethod
    def _sqlite(cls, value: str) -> str:
        if not value.startswith("sqlite:////"):
            raise ValueError("only SQLite is supported: write sqlite:/// and the absolute path of a file")
        return value

    @field_validator("bbs_address")
    @classmethod
    def _no_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.cache_pull_username is None) != (self.cache_pull_password_file is None):
            raise ValueError("cache_pull_username and cache_pull_password_file belong together")
        if (self.engine == "docker") != (self.docker_socket is not None):
            raise ValueError('docker_socket belongs to engine "docker"')
        if self.engine == "docker" and self.platforms == "all":
            raise ValueError('platforms "all" needs engine "registry": docker copies one platform')
        addresses = [each.address.lower() for each in (self.cache_registry, *self.registries)]
        for address in {each for each in addresses if addresses.count(each) > 1}:
            raise ValueError(f"registries: {address} is there twice, or is the private registry itself")
        try:
            _ = self.policy, self.cache_repositories
        except Invalid as error:
            raise ValueError(error.detail) from error
        try:
            _ = self.running_policy
        except Invalid as error:
            raise ValueError(f"migrate_running_rules: image: {error.detail}") from error
        return self

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may be meant so, and more often is a mistake."""
        found = []
        host = self.cache_registry.address.rpartition(":")[0].strip("[]").lower()
        if host in {"localhost", "::1"} or host.startswith("127.") or host.endswith(".internal"):
            address = self.cache_registry.address
            found.append(f"cache_registry.address: cells must reach {address} under this very name")
        if self.journal_key_file is None and self.migrate_running is MigrateRunning.BRIDGE:
            found.append("journal_key_file: without one no LRP is moved while it runs")
        return tuple(found)

    @property
    def policy(self) -> Policy:
        """Which images may be cached."""
        return Policy(self.cache, allow=self.allow_images, deny=self.deny_images)

    @property
    def running_policy(self) -> RunningPolicy:
        """Which LRPs may be moved while they run."""
        rules = (
            RunningRule(each.migrate_running, each.org, each.space, each.app, each.image)
            for each in self.migrate_running_rules
        )
        return RunningPolicy(self.migrate_running, tuple(rules))

    @property
    def cache_repositories(self) -> CacheRepositories:
        """Where copies lie."""
        return CacheRepositories(self.cache_registry.address, self.cache_repository_template)
