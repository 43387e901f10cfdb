"""The config of the daemon: all keys of the config file."""

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from controller.config.admin import AdminConfig
from controller.config.cell_address import MAX_NAME, why_cells_refuse
from controller.config.cloud_controller import CloudControllerConfig
from controller.config.locking import LockConfig
from controller.config.loggregator import LoggregatorConfig
from controller.config.metrics import MetricsConfig
from controller.config.sections import (
    FairSharesConfig,
    FormerRegistryConfig,
    RegistryConfig,
    RunningRuleConfig,
    SourceRegistryConfig,
    TrafficConfig,
)
from controller.config.values import (
    Address,
    Duration,
    LoopbackAddress,
    NonNegativeDuration,
    ReadableFile,
    SecretFile,
    Size,
)
from reconcile.errors import Invalid
from reconcile.hosts import canonical_host
from reconcile.policy import (
    CacheMode,
    MigrateRunning,
    Policy,
    RunningPolicy,
    RunningRule,
    UnseenStagings,
)
from reconcile.references import CacheRepositories
from reconcile.trust import ShareContent

_SERVERS = ("postgresql://", "postgres://", "mysql://", "mariadb://")

_WIDE_V4, _WIDE_V6 = 16, 48
"""Lengths of prefixes below which a network holds more than one registry's hosts."""


class Config(MetricsConfig, CloudControllerConfig, LockConfig, AdminConfig):
    """The values of a config file."""

    log_level: Literal["debug", "info", "error", "fatal"] = "info"
    """Lowest level of the log lines that the daemon writes. `log-level` changes it while the daemon runs."""
    time_format: Literal["rfc3339", "unix-epoch"] = "rfc3339"
    """How log lines write their time: "rfc3339" as a date, with the name of the level, or "unix-epoch" in
    seconds since 1970, with the number of the level."""
    debug_address: LoopbackAddress | None = None
    """Address at which the daemon shows what its tasks and threads are doing, and at which the log level can
    be read and set, "host:port". Every user of the machine may ask there, and the host must be a loopback
    address. When it is absent, nothing is shown."""
    healthcheck_address: Address | None = None
    """Address at which /ping answers with status 200 while the process lives, /ready while it is the active
    instance, and /health while nothing is unwell, "host:port". When it is absent, none of them is served."""
    loggregator: LoggregatorConfig = LoggregatorConfig()
    """The Loggregator agent, through which app developers and operators are told what happens to images."""
    start_paused: bool = False
    """Whether the daemon is paused when it starts with a new database. While it is paused, it copies and
    migrates only what an operator asks for, such as by applying a plan; `resume` ends the pause."""

    bbs_address: str = Field(pattern=r"^https://[^/\s]+/?$")
    """URL of the BBS, such as "https://bbs.service.cf.internal:8889"."""
    bbs_ca_cert_file: ReadableFile
    """CA certificates in PEM that the BBS's certificate must chain to."""
    bbs_client_cert_file: ReadableFile
    """Certificate in PEM that the daemon presents to the BBS."""
    bbs_client_key_file: ReadableFile
    """Private key of that certificate, in PEM and not encrypted."""
    communication_timeout: Duration = 30.0
    """Total time that one request to the BBS, to Cloud Controller or to UAA may take."""
    sync_interval: Duration = 30.0
    """Time between two sweeps. A sweep lists the LRPs of the BBS and finds changes that no event reported."""

    database_url: str = Field(repr=False)
    """URL of the database that holds the daemon's records: a SQLite file, such as
    "sqlite:////var/vcap/store/docker-cache/cache.db", or a database on a server that several instances share,
    such as "postgresql://docker_cache@sql-db.service.cf.internal:5432/docker_cache" or
    "mysql://docker_cache@sql-db.service.cf.internal:3306/docker_cache"."""
    database_password_file: SecretFile | None = None
    """File that holds the password of the user in `database_url`. It is read for each connection. Without
    this file, the password is taken from the environment variable `DOCKER_CACHE_DATABASE_PASSWORD`."""
    database_ca_cert_file: ReadableFile | None = None
    """CA certificates in PEM that the certificate of the database server must chain to. The host of
    `database_url` must be a name in that certificate. Without this file the server is not verified."""
    journal_key_file: SecretFile | None = None
    """File with one or more Fernet keys, one a line, that encrypt the journal of migrations. The first key
    encrypts, and all keys decrypt. Without this file the journal is in memory only, and no LRP is migrated
    while it runs."""

    cache_registry: RegistryConfig
    """The private registry, which holds the copies. Cells pull from its `address`."""
    cache_repository_template: str = "{guid}:latest"
    """Repository and tag of a copy. Use "docker-cache:{guid}" for registries that do not create repositories
    on push."""
    former_cache_registries: tuple[FormerRegistryConfig, ...] = ()
    """Private registries that were configured before. LRPs that run from their copies are migrated to
    `cache_registry`; what their sources serve no longer is copied from there."""
    cache_pull_username: str | None = Field(default=None, min_length=1)
    """User name with which cells pull from the private registry. It needs `cache_pull_password_file`."""
    cache_pull_password_file: SecretFile | None = None
    """File that holds the password for that user name."""
    copy_notes: bool = True
    """Whether a note is written beside each copy: a small artifact with the copy's source and digests and
    without any login, by which `rebuild` finds them again when the database is lost."""
    copy_notes_after: NonNegativeDuration = 30.0
    """Time from the end of a copy to its note."""

    eviction_grace: Duration = 600.0
    """Time for which nothing must have used a copy before `evict` may delete it."""

    record_retention: Duration = 7_776_000.0
    """Time after which the records of stagings and copies are forgotten that belong to no app with an LRP.
    The copies themselves stay."""

    registries: tuple[SourceRegistryConfig, ...] = ()
    """Source registries that need settings of their own, such as a login, CA certificates or private
    networks. The settings of a registry serve copies from it alone."""
    denied_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Public networks, such as the platform's own, that count as private: a source registry may be there only
    where its `allowed_networks` say so. All private and other special networks count as private anyway."""

    registry_auth_file: ReadableFile | None = None
    """File with logins in the format of Docker's config.json (auths, credHelpers, credsStore). The daemon
    uses them for images that were staged without a login and whose registry has no login in `registries`. A
    credential helper goes before an entry of the file. The daemon reads the file again when it changes, and
    finds credential helpers on PATH."""
    credential_helper_timeout: Duration = 10.0
    """Time that a credential helper may take. A helper that takes longer counts as one that has no login."""
    registry_traffic: TrafficConfig = TrafficConfig()
    """Limits of the traffic to each host that has no `traffic` of its own in `registries`."""
    rate_limit_floor: int = Field(default=10, ge=0)
    """Number of remaining pulls in a registry's rate limit, as the registry reports it, at which the daemon
    slows down: it then reads manifests only as fast as the limit is refilled. A value above a tenth of the
    limit counts as a tenth of it."""

    cache: CacheMode = CacheMode.ALL
    """Which apps' images are cached: "all", "opt_in" (apps with DIEGO_DOCKER_CACHE=true) or "opt_out" (apps
    without DIEGO_DOCKER_CACHE=false)."""
    allow_images: tuple[str, ...] = ()
    """Globs over full image references, such as "docker.io/library/*". Only images that match one are cached;
    an empty list allows all. The host of an image counts in one form: in small letters, without the port 443,
    and as "docker.io" for each name of Docker Hub."""
    deny_images: tuple[str, ...] = ()
    """Globs over full image references. Images that match one are never cached."""
    share_content: ShareContent = ShareContent.REGISTRY
    """Which sources trust each other, so that one copy serves them without being read again. "registry" lets
    images of the same registry share copies and layers, "organization" those of apps of the same
    organization, and "all" those of the whole platform, which is for platforms with one tenant. What comes
    from elsewhere is read completely at its own source before an app gets it."""
    lrp_domains: tuple[str, ...] = Field(default=("cf-apps",), min_length=1)
    """Domains of the BBS whose desired LRPs are migrated. LRPs of other domains are never changed."""

    engine: Literal["registry", "docker"] = "registry"
    """How images are copied: "registry" from registry to registry, "docker" through a docker daemon."""
    docker_socket: str | None = Field(default=None, pattern=r"^unix:///")
    """Socket of the docker daemon, such as "unix:///var/run/docker.sock". Engine "docker" needs it, and no
    other engine allows it."""
    platforms: str = Field(
        default="linux/amd64", pattern=r"^(all|[a-z0-9]+(\([0-9.]+\))?/[a-z0-9]+(/[a-z0-9]+)?)$"
    )
    """Platform whose image is copied out of an index, "os[(version)]/architecture[/variant]" such as
    "windows(10.0.17763)/amd64". Of several that fit, the one that cells take is copied. "all" copies the
    whole index."""
    max_copies: int = Field(default=4, ge=1, le=64)
    """Number of images that are copied at the same time. As many more are copied beside them while these are
    of organizations or source registries of which no other image is being copied, so that nobody waits for
    the images of another."""
    fair_shares: FairSharesConfig = FairSharesConfig()
    """Shares of organizations and of source registries in what is copied at the same time."""
    max_blobs_per_copy: int = Field(default=8, ge=1, le=32)
    """Number of layers of one image that are copied at the same time."""
    max_image_bytes: Size = 50 << 30
    """Size above which an image is not cached."""
    max_failed_bytes_per_day: Size = 100 << 30
    """Bytes that failed copies of one organization may move in a day. After that its copies wait: what failed
    copies leave in the private registry lies there until its garbage collection."""
    max_layers: int = Field(default=500, ge=1)
    """Number of layers above which an image is not cached."""
    registry_timeout: Duration = 60.0
    """Time without a byte after which a transfer fails."""
    min_bytes_per_second: Size = 64 << 10
    """Rate below which the transfer of a layer fails, to be tried again later. Only the time counts in which
    the daemon waits for the registry's bytes."""
    min_rate_window: Duration = 30.0
    """Time over which that rate is measured."""
    max_job_time: Duration = 86400.0
    """Time that all attempts to copy an image, and the waiting between them, may take. After this time the
    copy has failed."""
    verify: Literal["digest", "full"] = "digest"
    """How a copy is verified: "digest" by the digests that the private registry reports, "full" by reading
    every layer back and hashing it."""
    copy_foreign_layers: bool = False
    """Whether foreign layers, such as those of Windows, are fetched from the URLs in the manifest. This is
    done only where the private registry refuses the manifest without them."""
    copy_referrers: bool = False
    """Whether signatures, attestations and everything else that refers to an image are copied too."""

    max_in_flight: int = Field(default=10, ge=1)
    """Number of LRPs that are migrated at the same time."""
    migrate_running: MigrateRunning = MigrateRunning.BRIDGE
    """Whether an LRP is migrated while it runs. "bridge" migrates it, and runs a bridge, a temporary second
    LRP, meanwhile. "never" waits until none of its instances runs."""
    migrate_running_rules: tuple[RunningRuleConfig, ...] = ()
    """Exceptions from `migrate_running`. The first rule that matches an LRP applies."""
    unseen_stagings: UnseenStagings = UnseenStagings.CURRENT
    """What an LRP gets that runs from a tag, and whose staging the daemon has not seen. "current" migrates it
    to what the tag means now, which its next evacuation would pull as well. "wait" leaves it as it is until
    it is staged, or none of its instances runs."""
    bridge_timeout: Duration = 300.0
    """Time within which the instances of a bridge must run, including the pull of the image. After this time
    the bridge is removed, and the LRP stays unchanged."""
    start_timeout: Duration = 300.0
    """Time within which the migrated LRP's own instances must run again. After this time the migration
    counts as failed, and an LRP of which no instance runs goes back to its source."""
    copy_check_interval: Duration = 3600.0
    """Time within which each copy that an LRP runs from is looked for in the private registry: one request.
    The requests are spread evenly, five in a second at most."""
    blob_check_interval: Duration = 86400.0
    """Time within which the layers and the config of each such copy are looked for: one request each."""
    canary_timeout: Duration = 120.0
    """Time within which a canary must run or fail on a cell. After this time, cells count as unable to pull
    from the private registry: cells that wait for a registry that does not answer report nothing."""
    route_propagation_delay: NonNegativeDuration = 5.0
    """Time between the start of new instances and the removal of the instances that they replace, in which
    routers learn of the new ones."""
    drain_delay: NonNegativeDuration = 2.0
    """Time that requests in flight get to end after the routes of a bridge, or of an LRP whose bridge serves,
    were removed, before its instances are stopped."""
    drain_original: bool = True
    """Whether the routes of an LRP are removed, and `drain_delay` is waited for, before the LRP itself is
    removed while its bridge serves. They are given back when the LRP is not removed after all."""
    max_consecutive_failures: int = Field(default=3, ge=1)
    """Number of failed migrations in a row, no two of them of one organization or to one copy, that opens the
    circuit breaker. While it is open, no migration is started. So many of one organization, or to one copy,
    keep only those like them from being started."""
    circuit_retry_after: Duration = 600.0
    """Time after which an open circuit breaker lets one migration through as a test. Signal USR1 closes it at
    once."""
    restore_after: Duration | None = None
    """Time for which the private registry must be unreachable, by the daemon's own probes, before LRPs
    are migrated back to their sources, and for which it must be reachable again before they are migrated to
    their copies again. When it is absent, LRPs are not migrated back because of an unreachable registry."""
    workers: int = Field(default=8, ge=1, le=128)
    """Number of passes, each over one LRP, that run at the same time."""
    cloud_controller_sync_grace: Duration = Field(default=180.0, ge=130.0)
    """Time for which the daemon waits for Cloud Controller to desire a missing LRP again, when the daemon was
    restarted after it had removed the LRP and before it had desired the LRP again. It must be longer than
    the two minutes for which the domain stays fresh after a sync of Cloud Controller."""

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str) -> str:
        if not value.startswith(("sqlite:////", *_SERVERS)):
            raise ValueError(
                "write sqlite:/// and the absolute path of a file, postgresql://user@host:port/database or "
                "mysql://user@host:port/database"
            )
        return value

    @field_validator("bbs_address")
    @classmethod
    def _without_trailing_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @model_validator(mode="after")
    def _check_database_keys(self) -> Self:
        if self.has_database_server and self.journal_key_file is None:
            raise ValueError(
                "journal_key_file: a database on a server needs it: another instance could not resume what "
                "this one has in memory only"
            )
        if self.database_password_file is not None and self._has_url_password:
            raise ValueError("database_url: it has a password, and database_password_file has one too")
        return self

    @property
    def has_database_server(self) -> bool:
        """Whether the database is on a server, which other instances may use too."""
        return self.database_url.startswith(_SERVERS)

    @property
    def _has_url_password(self) -> bool:
        login, at, _ = self.database_url.partition("://")[2].rpartition("@")
        return self.has_database_server and bool(at) and ":" in login

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if (self.cache_pull_username is None) != (self.cache_pull_password_file is None):
            raise ValueError("cache_pull_username and cache_pull_password_file must be given together")
        if (self.engine == "docker") != (self.docker_socket is not None):
            raise ValueError('engine "docker" needs docker_socket, and no other engine allows it')
        if self.engine == "docker" and self.platforms == "all":
            raise ValueError('platforms "all" needs engine "registry": docker copies one platform')
        private = (self.cache_registry, *self.former_cache_registries)
        addresses = [canonical_host(each.address) for each in (*private, *self.registries)]
        for address in {each for each in addresses if addresses.count(each) > 1}:
            raise ValueError(
                f"registries: {address} is listed twice, or is the address of cache_registry or of one of "
                "former_cache_registries"
            )
        if (why := why_cells_refuse(self.cache_registry.address)) is not None:
            raise ValueError(f"cache_registry.address: {why}")
        try:
            _ = self.policy, self.cache_repositories
        except Invalid as error:
            raise ValueError(error.detail) from error
        if (length := self.cache_repositories.name_length) > MAX_NAME:
            raise ValueError(
                f"cache_repository_template: cells accept names of {MAX_NAME} characters with the registry's "
                f"address, and those of copies have {length}"
            )
        try:
            _ = self.running_policy
        except Invalid as error:
            raise ValueError(f"migrate_running_rules: image: {error.detail}") from error
        return self

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about settings that are valid but probably a mistake."""
        found = []
        host = re.sub(r":[0-9]+$", "", self.cache_registry.address).lower()
        if host == "localhost" or host.startswith("127.") or host.endswith(".internal"):
            address = self.cache_registry.address
            found.append(f"cache_registry.address: cells must reach the registry as {address}")
        found += [
            f"registries: allowed_networks of {each.address}: {network} is wide: what it leads to may be "
            "anywhere in it"
            for each in self.registries
            for network in each.allowed_networks
            if network.prefixlen < (_WIDE_V4 if network.version == 4 else _WIDE_V6)
        ]
        if self._has_url_password:
            found.append(
                "database_url: it has a password, which whoever reads the config reads too: put it into "
                "database_password_file"
            )
        if self.has_database_server and self.database_ca_cert_file is None:
            found.append("database_url: the server is not verified: name its CA in database_ca_cert_file")
        found += [
            f"{key}: only a database on a server uses it, and database_url names a file"
            for key in ("database_password_file", "database_ca_cert_file")
            if getattr(self, key) is not None and not self.has_database_server
        ]
        if self.journal_key_file is None and self.migrate_running is MigrateRunning.BRIDGE:
            found.append("journal_key_file: without this file no LRP is migrated while it runs")
        if self.locket_address is not None and not self.has_database_server:
            found.append(
                "locket_address: several instances need one database on a server: with a SQLite file, the "
                "one that takes over knows nothing of what the other has begun"
            )
        return (*found, *self.cloud_controller_warnings)

    @property
    def policy(self) -> Policy:
        """Which images may be cached."""
        return Policy(self.cache, allow=self.allow_images, deny=self.deny_images)

    @property
    def running_policy(self) -> RunningPolicy:
        """Which LRPs may be migrated while they run."""
        rules = (
            RunningRule(each.migrate_running, each.org, each.space, each.app, each.image)
            for each in self.migrate_running_rules
        )
        return RunningPolicy(self.migrate_running, tuple(rules))

    @property
    def private_registries(self) -> tuple[str, ...]:
        """The addresses of the private registry and of the former ones."""
        return (self.cache_registry.address, *(each.address for each in self.former_cache_registries))

    @property
    def cache_repositories(self) -> CacheRepositories:
        """The repositories that hold the copies."""
        template = self.cache_repository_template
        former = tuple(
            CacheRepositories(each.address, each.repository_template or template)
            for each in self.former_cache_registries
        )
        return CacheRepositories(self.cache_registry.address, template, former)
