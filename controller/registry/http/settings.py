"""Defines how registries are reached, as the operator configured it."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from controller.file_values import FileValue
from controller.registry.http.addresses import ANY_ADDRESS, AddressRules
from controller.registry.http.rate_limiter import TrafficLimits
from controller.registry.http.urls import Origin, Url, parse_url
from reconcile.lrps import Credentials
from reconcile.references import DOCKER_HUB

_HUB_API = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The settings of one host; a token server or a storage host may have settings of its own.

    Attributes:
        plain_http: Use http for this host instead of https.
        ca_file: PEM bundle of the authorities to trust, in place of the system's.
        client_cert_file: PEM client certificate; needs `client_key_file`.
        credentials: Used for copies that have no credentials of their own.
        login: The same, as it is in a file now; replaces `credentials`.
        any_address: The host, and the hosts that it refers to, may have private addresses: true for the
            private registry.
        limits: On the traffic to it; None takes the default for all hosts.
    """

    plain_http: bool = False
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    credentials: Credentials | None = None
    login: FileValue[Credentials] | None = None
    any_address: bool = False
    limits: TrafficLimits | None = None

    def current_login(self) -> Credentials | None:
        """Return the login as it is now."""
        return self.credentials if self.login is None else self.login.current()

    def tls_context(self) -> FileValue[ssl.SSLContext]:
        """Build the TLS context for connections to the host; it follows the files."""
        named = self.ca_file or _system_authorities(), self.client_cert_file, self.client_key_file
        return FileValue(tuple(file for file in named if file is not None), self._make_tls_context)

    def _make_tls_context(self) -> ssl.SSLContext:
        tls = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        if self.ca_file is not None:
            # Python 3.13 sets it, and then refuses private authorities without key identifiers.
            tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.client_cert_file is not None:
            key = None if self.client_key_file is None else str(self.client_key_file)
            tls.load_cert_chain(str(self.client_cert_file), key, password="")  # an encrypted key fails
        return tls

    def rules(self, general: AddressRules) -> AddressRules:
        """Return the rules for addresses that requests for this registry may reach."""
        return ANY_ADDRESS if self.any_address else general


def _system_authorities() -> Path:
    """Name the file of the authorities that the system trusts; it need not exist."""
    paths = ssl.get_default_verify_paths()
    return Path(paths.cafile or paths.openssl_cafile)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long requests may take, in seconds.

    Attributes:
        connect: To connect, TLS handshake included.
        idle: Without a byte sent or received.
        total: For a request and its response, without the bytes of a blob.
        slowest: Bytes per second that the sender of a blob must reach, on average over each window.
        window: Length of that window; only time counts in which the sender is waited for.
        longest: For a request and its response, when one of them holds a blob.
    """

    connect: float = 10.0
    idle: float = 60.0
    total: float = 120.0
    slowest: float = 64.0 * 1024
    window: float = 30.0
    longest: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often an idempotent request is attempted, and with which pauses.

    Attributes:
        attempts: Number of attempts in all.
        first_wait: Upper bound of the first pause in seconds; it doubles each time.
        longest_wait: Upper bound of any pause in seconds.
        total: No attempt starts after so many seconds.
        login_wait: Seconds before a login that worked before, and was refused now, is attempted once
            more.
    """

    attempts: int = 4
    first_wait: float = 0.2
    longest_wait: float = 5.0
    total: float = 30.0
    login_wait: float = 1.0


def api_url(domain: str, settings: RegistrySettings) -> Url:
    """Return the base URL of a registry's API for the host part of an image reference.

    Raises:
        Invalid: `bad-url` when the port is out of range.
    """
    host = _HUB_API if domain == DOCKER_HUB else domain
    return parse_url(f"{'http' if settings.plain_http else 'https'}://{host}/v2/")


def settings_key(origin: Origin) -> str:
    """Return the key under which an origin's settings are looked up."""
    return DOCKER_HUB if origin.domain == _HUB_API else origin.domain
