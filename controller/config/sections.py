"""The nested objects of the config file: registries, limits of traffic, and rules for running LRPs."""

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from controller.config.values import ReadableFile, SecretFile, Size
from reconcile.hosts import DEFAULT_PORT
from reconcile.policy import MigrateRunning

Weight = Annotated[float, Field(ge=0.1, le=100.0)]
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?", re.ASCII)
_PORT_OF_TLS = re.compile(rf":0*{DEFAULT_PORT}\Z")


class Section(BaseModel):
    """An object of the config file. It is immutable, and refuses unknown keys.

    The docstring below a key is its description in documents.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


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
    other_hosts: tuple[str, ...] = ()
    """Other hosts that belong to the registry, each with its port if that is not the default one: its token
    server, its storage, and other names of its own. `ca_cert_file` serves them too, identity tokens may be
    sent to them, and uploads may be redirected to them. Neither the password nor the client certificate goes
    there with a redirect. A host that is a registry of this config itself must be named here before this
    registry may lead to it."""
    traffic: TrafficConfig | None = None
    """Limits of the traffic to the registry. When it is absent, `registry_traffic` applies."""

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file must be given together")
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file must be given together")
        if self.plain_http and _PORT_OF_TLS.search(self.address):
            raise ValueError("plain_http: port 443 is that of TLS: write another port, or none for port 80")
        return self

    @field_validator("other_hosts")
    @classmethod
    def _check_other_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            found = _HOST.fullmatch(host)
            if found is None or not 0 < int(found[1] or DEFAULT_PORT) < 65536:
                raise ValueError(f"{host[:100]!r} is no host with an optional port")
        return value


class SourceRegistryConfig(RegistryConfig):
    """How the daemon reaches one source registry."""

    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Private networks, such as "10.0.16.0/24", in which this registry, its token server and its storage may
    be. They serve copies from this registry alone. Public addresses are always allowed. The address of a
    cloud's metadata service is allowed only where it is named by itself, such as "169.254.169.254/32"."""


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
