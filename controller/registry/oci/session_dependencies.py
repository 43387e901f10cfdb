"""Names the objects that all sessions of one client share."""

from collections.abc import Callable
from dataclasses import dataclass

from controller.registry.auth.authenticator import Authenticator
from controller.registry.auth.hidden_challenges import HiddenChallenges
from controller.registry.auth.keychain import Keychain
from controller.registry.http.backoff_state import BackoffStates
from controller.registry.http.connection_pool import ConnectionPool
from controller.registry.http.settings import Retries, Timeouts
from controller.registry.oci.request_observer import RequestObserver
from reconcile.lease import always


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDependencies:
    """The objects that all sessions share."""

    pool: ConnectionPool
    authenticator: Authenticator
    keychain: Keychain
    hidden_challenges: HiddenChallenges
    backoff_states: BackoffStates
    retries: Retries
    timeouts: Timeouts
    observer: RequestObserver
    check_active: Callable[[], None] = always
