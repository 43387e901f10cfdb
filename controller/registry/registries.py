"""Opens repositories of any registry, which share connections, tokens, logins and back-off states."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.registry.auth.authenticator import Authenticator
from controller.registry.auth.credential_helpers import CredentialHelpers
from controller.registry.auth.ecr import EcrLogins
from controller.registry.auth.hidden_challenges import HiddenChallenges
from controller.registry.auth.keychain import Keychain
from controller.registry.http.addresses import Network
from controller.registry.http.backoff_state import BackoffStates
from controller.registry.http.connection_pool import ConnectionPool
from controller.registry.http.home import configured_origins, home_of
from controller.registry.http.rate_limiter import TrafficLimits
from controller.registry.http.request import RequestContext
from controller.registry.http.settings import RegistrySettings, Retries, Timeouts
from controller.registry.http.urls import Url
from controller.registry.oci.repository import Repository
from controller.registry.oci.request_observer import NullRequestObserver, RequestObserver
from controller.registry.oci.session import Session
from controller.registry.oci.session_dependencies import SessionDependencies
from controller.threads import Cancellation
from reconcile.answers import Side
from reconcile.hosts import canonical_host
from reconcile.lease import always
from reconcile.lrps import Credentials
from reconcile.references import ImageReference

_MOST_BLOBS_AT_A_TIME = 64


@dataclass(frozen=True, slots=True)
class ClientPolicy:
    """How the client treats all registries.

    Attributes:
        limits: On the traffic to each host that has none of its own.
        rate_limit_floor: Number of pulls left at a host at which reading manifests slows down.
        auth_file: The operator's logins in docker's format.
        helper_time_limit: Seconds that a credential helper may take.
        ecr: Exchanges AWS access keys; None asks AWS.
        observer: Is told how requests end.
        check_active: Raises `LeaseLost` when this process must not change anything any more.
    """

    limits: TrafficLimits = TrafficLimits()  # noqa: RUF009 - a frozen value
    rate_limit_floor: int = 0
    auth_file: Path | None = None
    helper_time_limit: float = 10.0
    ecr: EcrLogins | None = None
    observer: RequestObserver = NullRequestObserver()  # noqa: RUF009 - it has no state
    check_active: Callable[[], None] = always


class Registries:
    """Opens repositories of any registry.

    Args:
        settings: Host, with its port if it is not 443, to its settings.
        denied_networks: Networks in which no registry may be that has not been allowed to.
        timeouts: How long requests may take.
        retries: How idempotent requests are repeated.
        policy: How all registries are treated.

    Attributes:
        slowest: Bytes per second below which nobody need wait for the transfer of a blob.

    Raises:
        Invalid: `bad-auth-file`.
    """

    def __init__(
        self,
        settings: Mapping[str, RegistrySettings],
        *,
        denied_networks: tuple[Network, ...] = (),
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - a frozen value
        retries: Retries = Retries(),  # noqa: B008 - a frozen value
        policy: ClientPolicy = ClientPolicy(),
    ) -> None:
        self._settings = {canonical_host(domain): each for domain, each in settings.items()}
        self._configured = configured_origins(settings.items())
        self._denied = denied_networks
        limits = [policy.limits, *(each.limits for each in settings.values() if each.limits is not None)]
        self.slowest = share_of_slowest(timeouts.slowest, limits)
        pool = ConnectionPool(self._settings, timeouts, policy.limits)
        self._dependencies = SessionDependencies(
            pool=pool,
            authenticator=Authenticator(pool, login_wait=retries.login_wait),
            keychain=Keychain(
                self.settings_of,
                policy.auth_file,
                helpers=CredentialHelpers(policy.helper_time_limit),
                ecr=policy.ecr,
            ),
            hidden_challenges=HiddenChallenges(),
            backoff_states=BackoffStates(policy.rate_limit_floor),
            retries=retries,
            timeouts=timeouts,
            observer=policy.observer,
            check_active=policy.check_active,
        )

    def settings_of(self, domain: str) -> RegistrySettings:
        """Return the settings of a registry; https with the system's authorities by default."""
        return self._settings.get(canonical_host(domain), RegistrySettings())

    def login(
        self,
        image: ImageReference,
        own: Credentials | None = None,
        *,
        refused: Credentials | None = None,
    ) -> Credentials | None:
        """Find the login for an image, for a client other than this one; may block.

        Args:
            image: What the login is for.
            own: The login that came with the image; None looks up the operator's.
            refused: A login that the registry refused; what returned it is asked again.
        """
        return self._dependencies.keychain.find(image.canonical(), own=own, refused=refused)

    def repository(
        self, image: ImageReference, credentials: Credentials | None, cancellation: Cancellation
    ) -> Repository:
        """Open the repository of an image.

        Args:
            image: Its repository is opened; tag and digest do not matter.
            credentials: None uses the operator's.
            cancellation: Ends its requests.
        """
        image = image.canonical()
        settings = self.settings_of(image.domain)
        side = Side.PRIVATE if settings.any_address else Side.SOURCE
        home = home_of(canonical_host(image.domain), settings, self._configured)
        context = RequestContext(home, settings.rules(self._denied), cancellation, side)
        session = Session(
            image,
            Url(home.origin, "/v2/"),
            self._dependencies,
            credentials=credentials,
            context=context,
        )
        return Repository(session)

    def close(self) -> None:
        """Close the connections."""
        self._dependencies.pool.close()


def share_of_slowest(rate: float, limits: Iterable[TrafficLimits]) -> float:
    """Lower the slowest allowed rate of a blob to its share, where the operator limits bytes."""
    own = [each.bytes_per_second for each in limits if each.bytes_per_second is not None]
    return min([rate, *(each / _MOST_BLOBS_AT_A_TIME for each in own)])
