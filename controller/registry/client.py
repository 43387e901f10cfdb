"""Opens repositories of any registry, and keeps connections, tokens and what hosts said between them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from controller.registry.addresses import AddressRules, Network
from controller.registry.auth import Authenticator
from controller.registry.cancellation import Cancellation
from controller.registry.credential_helper import CredentialHelpers
from controller.registry.exchange import Work
from controller.registry.findings import BlobsMissing, ManifestHead
from controller.registry.keychain import Keychain
from controller.registry.pace import Paces
from controller.registry.repository import Repository
from controller.registry.session import Session, Shared
from controller.registry.settings import RegistrySettings, Retries, Timeouts, api_url
from controller.registry.traffic import Limits
from controller.registry.transport import Transport
from reconcile.images import ImageReference
from reconcile.lrps import Credentials

__all__ = ["BlobsMissing", "ManifestHead", "Manners", "Registries", "Repository"]

_MOST_BLOBS_AT_A_TIME = 64


@dataclass(frozen=True, slots=True)
class Manners:
    """How all registries are treated alike.

    Attributes:
        limits: Of the traffic to each host that has none of its own.
        rate_limit_floor: Pulls left at a host at which reading manifests slows down.
        auth_file: The operator's logins in docker's format.
        helper_time_limit: Seconds that a credential helper may take.
    """

    limits: Limits = Limits()  # noqa: RUF009 - a frozen value
    rate_limit_floor: int = 0
    auth_file: Path | None = None
    helper_time_limit: float = 10.0


class Registries:
    """Opens repositories of any registry.

    Args:
        settings: Host, with its port if it is not 443, to how it is reached.
        allowed_networks: Private networks that source registries may lie in.
        timeouts: Limits of waiting.
        retries: How idempotent requests are repeated.
        manners: How all are treated beside that.

    Raises:
        Invalid: `bad-auth-file`.
    """

    def __init__(
        self,
        settings: Mapping[str, RegistrySettings],
        *,
        allowed_networks: tuple[Network, ...] = (),
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - a frozen value
        retries: Retries = Retries(),  # noqa: B008 - a frozen value
        manners: Manners = Manners(),
    ) -> None:
        self._settings = {domain.lower(): each for domain, each in settings.items()}
        self._rules = AddressRules(allowed_networks)
        limits = [manners.limits, *(each.limits for each in settings.values() if each.limits is not None)]
        timeouts = replace(timeouts, slowest=_slowest(timeouts.slowest, limits))
        transport = Transport(self._settings, timeouts, manners.limits)
        self._shared = Shared(
            transport,
            Authenticator(transport, login_wait=retries.login_wait),
            Keychain(self.settings_of, manners.auth_file, CredentialHelpers(manners.helper_time_limit)),
            Paces(manners.rate_limit_floor),
            retries,
            timeouts,
        )

    def settings_of(self, domain: str) -> RegistrySettings:
        """Find how a registry is reached; https with the system's certificates by default."""
        return self._settings.get(domain.lower(), RegistrySettings())

    def operator_login(self, image: ImageReference) -> Credentials | None:
        """Find the operator's login for an image, for whom asks its registry by other means; may block."""
        return self._shared.keychain.find(image.canonical())

    def repository(
        self, image: ImageReference, credentials: Credentials | None, cancellation: Cancellation
    ) -> Repository:
        """Open the repository that an image lies in.

        Args:
            image: Names the repository; tag and digest do not matter.
            credentials: None leaves it to the operator's.
            cancellation: Ends its requests.
        """
        image = image.canonical()
        settings = self.settings_of(image.domain)
        work = Work(settings.rules(self._rules), cancellation)
        session = Session(
            image, api_url(image.domain, settings), self._shared, credentials=credentials, work=work
        )
        return Repository(session)

    def close(self) -> None:
        """Close the connections."""
        self._shared.transport.close()


def _slowest(rate: float, limits: Iterable[Limits]) -> float:
    """Lower the slowest rate of a blob to what is left for one where the operator limits bytes."""
    own = [each.bytes_per_second for each in limits if each.bytes_per_second is not None]
    return min([rate, *(each / _MOST_BLOBS_AT_A_TIME for each in own)])
