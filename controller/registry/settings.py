"""How registries are reached, as the operator has set it."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from controller.registry.addresses import EVERYWHERE, AddressRules
from controller.registry.traffic import Limits
from controller.registry.urls import Origin, Url, parse_url
from reconcile.images import DOCKER_HUB
from reconcile.lrps import Credentials

_HUB_API = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How one host is reached; a token server or a storage host may have settings of its own.

    Attributes:
        plain_http: Speak http to this registry instead of https.
        ca_file: PEM bundle to verify it with, in place of the system's.
        client_cert_file: PEM certificate to show it; needs `client_key_file`.
        credentials: Used when a copy brings none of its own.
        any_address: Its address, and those it refers to, may be private: the private registry.
        limits: Of the traffic to it; None takes those of all hosts.
    """

    plain_http: bool = False
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    credentials: Credentials | None = None
    any_address: bool = False
    limits: Limits | None = None

    def tls_context(self) -> ssl.SSLContext:
        """Build the TLS settings for a connection."""
        context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        if self.client_cert_file is not None:
            key = None if self.client_key_file is None else str(self.client_key_file)
            context.load_cert_chain(str(self.client_cert_file), key)
        return context

    def rules(self, general: AddressRules) -> AddressRules:
        """Say which addresses requests on this registry's behalf may reach."""
        return EVERYWHERE if self.any_address else general


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of waiting, in seconds.

    Attributes:
        connect: For a connection, TLS handshake included.
        idle: Without a byte in either direction.
        total: For a request without a blob in it, its answer included.
        grace: For a blob of no bytes; a larger one gets more.
        slowest: Bytes per second below which a blob is given up.
    """

    connect: float = 10.0
    idle: float = 60.0
    total: float = 120.0
    grace: float = 60.0
    slowest: float = 16.0 * 1024

    def for_blob(self, size: int) -> float:
        """Give the limit of moving so many bytes."""
        return self.grace + size / self.slowest


@dataclass(frozen=True, slots=True)
class Retries:
    """How often an idempotent request is tried.

    Attributes:
        attempts: Tries in all.
        first_wait: Upper bound of the first pause in seconds; it doubles each time.
        longest_wait: Upper bound of any pause in seconds.
        total: No try begins after so many seconds.
        login_wait: Pause before a token server that refuses a login which worked before is asked
            once more.
    """

    attempts: int = 4
    first_wait: float = 0.2
    longest_wait: float = 5.0
    total: float = 30.0
    login_wait: float = 1.0


def api_url(domain: str, settings: RegistrySettings) -> Url:
    """Name the base of a registry's API for the host part of an image reference.

    Raises:
        Invalid: `bad-url` when the port cannot be dialled.
    """
    host = _HUB_API if domain == DOCKER_HUB else domain
    return parse_url(f"{'http' if settings.plain_http else 'https'}://{host}/v2/")


def settings_key(origin: Origin) -> str:
    """Name the key under which an origin's settings are looked up."""
    return DOCKER_HUB if origin.domain == _HUB_API else origin.domain
