"""Builds the clients of registries from the config."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from controller.canary_image import CanaryImages
from controller.config import Config, RegistryConfig, SourceRegistryConfig, TrafficConfig, read_secret
from controller.file_values import FileValue
from controller.health import HealthStates
from controller.registry.http.rate_limiter import TrafficLimits
from controller.registry.http.settings import RegistrySettings, Retries, Timeouts
from controller.registry.oci.platforms import LINUX_AMD64, parse_platform
from controller.registry.oci.request_observer import NullRequestObserver, RequestObserver
from controller.registry.registries import ClientPolicy, Registries, share_of_slowest
from controller.registry_probe import RegistryProbe
from reconcile.fairness import Slots
from reconcile.hosts import DOCKER_HUB
from reconcile.lease import always
from reconcile.lrps import Credentials, Secret

SMALL_TIMEOUTS = Timeouts(connect=5.0, idle=10.0, total=30.0, window=30.0)
"""Timeouts of the requests for canaries' images and notes, which have some hundred bytes."""

PROBE_TIMEOUTS = Timeouts(connect=5.0, idle=10.0, total=15.0, window=15.0)
"""Timeouts of the requests that ask whether the private registry is well."""

UNOBSERVED = NullRequestObserver()


def open_registries(
    config: Config,
    *,
    timeouts: Timeouts | None = None,
    retries: Retries = Retries(),  # noqa: B008 - a frozen value
    observer: RequestObserver = UNOBSERVED,
    check_active: Callable[[], None] = always,
) -> Registries:
    """Open the client of all registries that the daemon uses; blocks, since it reads files.

    Args:
        config: Of the daemon.
        timeouts: Replace those of the config.
        retries: How idempotent requests are repeated.
        observer: Is told how requests end.
        check_active: Raises `LeaseLost` when this process must not change anything any more.

    Raises:
        Invalid: `bad-auth-file`.
    """
    settings = {each.address: registry_settings(each, any_address=False) for each in config.registries}
    for each in config.former_cache_registries:
        settings[each.address] = registry_settings(each, any_address=True)
    settings[config.cache_registry.address] = registry_settings(config.cache_registry, any_address=True)
    from_config = Timeouts(
        idle=config.registry_timeout,
        slowest=config.min_bytes_per_second,
        window=config.min_rate_window,
        longest=config.max_job_time,
    )
    return Registries(
        settings,
        denied_networks=config.denied_networks,
        timeouts=from_config if timeouts is None else timeouts,
        retries=retries,
        policy=ClientPolicy(
            limits=_limits(config.registry_traffic),
            rate_limit_floor=config.rate_limit_floor,
            auth_file=config.registry_auth_file,
            helper_time_limit=config.credential_helper_timeout,
            observer=observer,
            check_active=check_active,
        ),
    )


def slots_of(config: Config) -> Slots:
    """Say how many images are copied at the same time, and whose."""
    shares = config.fair_shares
    return Slots(config.max_copies, config.max_copies, shares.organizations, shares.hosts)


def slowest_transfer(config: Config) -> float:
    """Return the rate below which nobody waits for another's transfer, in bytes per second."""
    own = [each.traffic for each in (config.cache_registry, *config.registries) if each.traffic is not None]
    return share_of_slowest(
        config.min_bytes_per_second, [_limits(each) for each in (config.registry_traffic, *own)]
    )


def open_cells_view(
    config: Config,
    *,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - a frozen value
    retries: Retries = Retries(),  # noqa: B008 - a frozen value
) -> Registries:
    """Open a client of the private registry with the login that cells have, or none."""
    own = registry_settings(config.cache_registry, any_address=True)
    settings = replace(own, login=pull_login(config))
    return Registries({config.cache_registry.address: settings}, timeouts=timeouts, retries=retries)


def open_foreign_view(
    config: Config, credentials: Credentials | None, *, timeouts: Timeouts, retries: Retries
) -> Registries:
    """Open a client of the private registry as cells do that have a login of somebody else, or none."""
    own = registry_settings(config.cache_registry, any_address=True)
    settings = replace(own, login=None, credentials=credentials)
    return Registries({config.cache_registry.address: settings}, timeouts=timeouts, retries=retries)


def open_health(config: Config) -> HealthStates:
    """Make what keeps the health of registries; nothing is known yet."""
    return HealthStates(config.cache_registry.address, source_registries(config))


def source_registries(config: Config) -> tuple[str, ...]:
    """List the source registries that the operator has named, and Docker Hub."""
    named = (*config.registries, *config.former_cache_registries)
    return DOCKER_HUB, *(each.address for each in named)


def open_probe(config: Config, observer: RequestObserver) -> RegistryProbe:
    """Open what probes the private registry with the daemon's own login.

    Its client is its own: no copy can use up the connections that the operator allows.
    """
    registries = open_registries(
        config, timeouts=PROBE_TIMEOUTS, retries=Retries(attempts=1), observer=observer
    )
    return RegistryProbe(registries, config.cache_repositories)


def open_canary_images(config: Config, observer: RequestObserver = UNOBSERVED) -> CanaryImages | None:
    """Open what pushes canaries' images with the daemon's own login; None where no canary can be made.

    An image for Windows needs the layers of Windows.
    """
    platform = LINUX_AMD64 if config.platforms == "all" else parse_platform(config.platforms)
    if platform.os != "linux":
        return None
    registries = open_registries(config, timeouts=SMALL_TIMEOUTS, observer=observer)
    return CanaryImages(registries, config.cache_repositories, platform)


def pull_credentials(config: Config) -> Credentials | None:
    """Read the login that cells get for the private registry; None when they get none."""
    login = pull_login(config)
    return None if login is None else login.current()


def pull_login(config: Config) -> FileValue[Credentials] | None:
    """Follow the login that cells get for the private registry; None when they get none."""
    return _login(config.cache_pull_username, config.cache_pull_password_file)


def _login(username: str | None, password_file: Path | None) -> FileValue[Credentials] | None:
    """Follow the password of a login; an empty file is one that is being written."""
    if username is None or password_file is None:
        return None

    def read() -> Credentials:
        try:
            password = read_secret(password_file)
        except UnicodeDecodeError:  # whose text has a part of the file in it
            raise ValueError(f"{password_file} holds no text in UTF-8") from None
        if not password:
            raise ValueError(f"{password_file} is empty")
        return Credentials(username, Secret(password))

    return FileValue((password_file,), read)


def registry_settings(registry: RegistryConfig, *, any_address: bool) -> RegistrySettings:
    """Describe how one registry is reached.

    Args:
        registry: The registry's part of the config.
        any_address: Whether it may have a private address, as the private registry may.
    """
    return RegistrySettings(
        plain_http=registry.plain_http,
        ca_file=registry.ca_cert_file,
        client_cert_file=registry.client_cert_file,
        client_key_file=registry.client_key_file,
        login=_login(registry.username, registry.password_file),
        any_address=any_address,
        allowed_networks=registry.allowed_networks if isinstance(registry, SourceRegistryConfig) else (),
        other_hosts=registry.other_hosts,
        limits=None if registry.traffic is None else _limits(registry.traffic),
    )


def _limits(traffic: TrafficConfig) -> TrafficLimits:
    return TrafficLimits(
        connections=traffic.max_connections,
        requests_per_second=traffic.max_requests_per_second,
        bytes_per_second=traffic.max_bytes_per_second,
    )
