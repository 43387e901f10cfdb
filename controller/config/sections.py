"""The nested objects of the config file: registries, limits of traffic, and rules for running LRPs."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from controller.config.values import ReadableFile, SecretFile, Size
from reconcile.policy import MigrateRunning

Weight = Annotated[float, Field(ge=0.1, le=100.0)]


class Section(BaseModel):
    """An object of the config file. It is immutable, and refuses unknown keys.

    The docstring below a key is its description in documents.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class TrafficConfig(Section):
    """Limits of the traffic to one host; without a key there is no such limit."""

    max_connections: int | None = Field(default=None, ge=2)
    """Number of connections in use at the same time, of which copies leave a quarter to other requests. When
    it is absent, there is no limit."""
    max_requests_per_second: float | None = Field(default=None, gt=0)
    """Number of requests per second. The requests of one second may be sent in one burst. When it is absent,
    there is no limit."""
    max_bytes_per_second: Size | None = None
    """Bytes of request and response bodies per second, added up. When it is absent, there is no limit."""


class FairSharesConfig(Section):
    """Weights of organizations and of source registries among those that wait for copies."""

    organizations: dict[str, Weight] = Field(default={})
    """GUID of an organization to its weight. One with weight 2 gets two turns where others get one. The
    weight of those that are not listed is 1."""
    hosts: dict[str, Weight] = Field(default={})
    """Host of a source registry, as image references name it, to its weight among the images of one
    organization. The weight of those that are not listed is 1."""


class RegistryConfig(Section):
    """How the daemon reaches one registry."""

    address: str = Field(min_length=1)
    """Host of the registry as image references name it, with its port if that is not 443; "docker.io" for
    Docker Hub."""
    plain_http: bool = False
    """Whether the daemon speaks HTTP without TLS to the registry."""
    ca_cert_file: ReadableFile | None = None
    """CA certificates in PEM that the registry's certificate must chain to. When it is absent, the
    system's CA certificates are used."""
    client_cert_file: ReadableFile | None = None
    """Certificate in PEM that the daemon presents to the registry."""
    client_key_file: ReadableFile | None = None
    """Private key of that certificate, in PEM and not encrypted."""
    username: str | None = Field(default=None, min_length=1)
    """User name for the registry. It needs `password_file`."""
    password_file: SecretFile | None = None
    """File that holds the password for that user name. A line break at its end is ignored."""
    traffic: TrafficConfig | None = None
    """Limits of the traffic to the registry. When it is absent, `registry_traffic` applies."""

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file must be given together")
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file must be given together")
        return self


class FormerRegistryConfig(RegistryConfig):
    """A former private registry, from which LRPs may still run."""

    repository_template: str | None = None
    """Repository and tag that its copies have. When it is absent, they have those of
    `cache_repository_template`."""


class RunningRuleConfig(Section):
    """A rule that says how running LRPs are migrated; it applies to LRPs that match all of its globs."""

    org: str = Field(default="*", min_length=1)
    """Glob over the name or the GUID of the organization."""
    space: str = Field(default="*", min_length=1)
    """Glob over the name or the GUID of the space."""
    app: str = Field(default="*", min_length=1)
    """Glob over the name or the GUID of the app."""
    image: str = Field(default="*", min_length=1)
    """Glob over the full reference of the image."""
    migrate_running: MigrateRunning
    """Value of `migrate_running` for the LRPs that match: "bridge" or "never"."""
