"""The objects inside of the config file: registries, limits of traffic, and rules for running LRPs."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from controller.config.values import ReadableFile, SecretFile, Size
from reconcile.policy import MigrateRunning


class Section(BaseModel):
    """An object of the file: no unknown keys, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TrafficConfig(Section):
    """What one host may be asked for; absent keys are no limit."""

    max_connections: int | None = Field(default=None, ge=2)
    """Connections in use at the same time; no limit when absent."""
    max_requests_per_second: float | None = Field(default=None, gt=0)
    """Requests per second; a burst of one second's worth passes; no limit when absent."""
    max_bytes_per_second: Size | None = None
    """Bytes of bodies per second, both directions together; no limit when absent."""


class RegistryConfig(Section):
    """How to reach one registry, and with what."""

    address: str = Field(min_length=1)
    """Host, with its port if it is not 443, as image references name it; "docker.io" for Docker Hub."""
    plain_http: bool = False
    """Speak HTTP without TLS to it."""
    ca_cert_file: ReadableFile | None = None
    """CA certificates to trust for it, in PEM; the system's when absent."""
    client_cert_file: ReadableFile | None = None
    """Certificate to present to it, in PEM."""
    client_key_file: ReadableFile | None = None
    """Key of that certificate, in PEM."""
    username: str | None = Field(default=None, min_length=1)
    """User name for it; together with `password_file`."""
    password_file: SecretFile | None = None
    """File that holds the password, and a line end if you like."""
    traffic: TrafficConfig | None = None
    """Limits of the traffic to it; `registry_traffic` when absent."""

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together")
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file belong together")
        return self


class RunningRuleConfig(Section):
    """Decides whether some LRPs may be moved while they run; all of its globs must match."""

    org: str = Field(default="*", min_length=1)
    """Glob over the name or the GUID of the organization."""
    space: str = Field(default="*", min_length=1)
    """Glob over the name or the GUID of the space."""
    app: str = Field(default="*", min_length=1)
    """Glob over the name or the GUID of the app."""
    image: str = Field(default="*", min_length=1)
    """Glob over the full reference of the image."""
    migrate_running: MigrateRunning
    """What holds for these LRPs: "bridge" or "never"."""
