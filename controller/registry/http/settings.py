"""Defines how registries are reached, as the operator configured it."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from controller.file_values import FileValue
from controller.registry.http.addresses import AddressRules, Network
from controller.registry.http.rate_limiter import TrafficLimits
from controller.registry.http.urls import Url, parse_url
from reconcile.hosts import DOCKER_HUB, HUB_API
from reconcile.lrps import Credentials


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of a TLS context: whom it trusts, and how it shows who we are.

    Attributes:
        ca: PEM bundle of the authorities to trust, in place of the system's.
        certificate: PEM client certificate; needs `key`.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> FileValue[ssl.SSLContext]:
        """Build the TLS context; it follows the files."""
        named = self.ca or _system_authorities(), self.certificate, self.key
        return FileValue(tuple(file for file in named if file is not None), self._make_context)

    def _make_context(self) -> ssl.SSLContext:
        tls = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        if self.ca is not None:
            # Python 3.13 sets it, and then refuses private authorities without key identifiers.
            tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.certificate is not None:
            key = None if self.key is None else str(self.key)
            tls.load_cert_chain(str(self.certificate), key, password="")  # an encrypted key fails
        return tls


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The settings of one registry, which serve the sessions that are opened for it and no other.

    Attributes:
        plain_http: Use http for this host instead of https.
        ca_file: PEM bundle of the authorities to trust, in place of the system's.
        client_cert_file: PEM client certificate; needs `client_key_file`.
        credentials: Used for copies that have no credentials of their own.
        login: The same, as it is in a file now; replaces `credentials`.
        any_address: The registry, and the hosts that it refers to, may have private addresses: true for the
            private registry.
        allowed_networks: Private networks in which the registry, and the hosts that it refers to, may be.
        other_hosts: Hosts, with a port if it is not the default one, that belong to the registry: its token
            server, its storage, and other names of its own.
        limits: On the traffic to it; None takes the default for all hosts.
    """

    plain_http: bool = False
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    credentials: Credentials | None = None
    login: FileValue[Credentials] | None = None
    any_address: bool = False
    allowed_networks: tuple[Network, ...] = ()
    other_hosts: tuple[str, ...] = ()
    limits: TrafficLimits | None = None

    def current_login(self) -> Credentials | None:
        """Return the login as it is now."""
        return self.credentials if self.login is None else self.login.current()

    @property
    def tls(self) -> TlsFiles:
        """The TLS files of connections to the registry itself."""
        return TlsFiles(self.ca_file, self.client_cert_file, self.client_key_file)

    def rules(self, denied: tuple[Network, ...] = ()) -> AddressRules:
        """Return the rules for addresses that sessions of this registry may reach.

        Args:
            denied: Networks in which no registry may be that has not been allowed to.
        """
        return AddressRules(self.allowed_networks, denied, any_address=self.any_address)


def _system_authorities() -> Path:
    """Name the file of the authorities that the system trusts; it need not exist."""
    paths = ssl.get_default_verify_paths()
    return Path(paths.cafile or paths.openssl_cafile)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long requests may take, in seconds.

    Attributes:
        connect: To connect: the lookup, all addresses of the host and the TLS handshake together.
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
    host = HUB_API if domain == DOCKER_HUB else domain
    return parse_url(f"{'http' if settings.plain_http else 'https'}://{host}/v2/")
