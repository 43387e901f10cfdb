"""Builds what speaks to registries out of the config, for whoever makes a process of it."""

from dataclasses import replace

from controller.config import Config, RegistryConfig, TrafficConfig, read_secret
from controller.registry.http.rate_limiter import TrafficLimits
from controller.registry.http.settings import RegistrySettings, Retries, Timeouts
from controller.registry.registries import ClientPolicy, Registries
from reconcile.lrps import Credentials, Secret


def open_registries(
    config: Config,
    *,
    timeouts: Timeouts | None = None,
    retries: Retries = Retries(),  # noqa: B008 - a frozen value
) -> Registries:
    """Open the client of all registries as the daemon uses it; blocks, since it reads files.

    Args:
        config: Of the daemon.
        timeouts: In place of what the config says.
        retries: How idempotent requests are repeated.

    Raises:
        Invalid: `bad-auth-file`.
    """
    settings = {each.address: registry_settings(each, any_address=False) for each in config.registries}
    settings[config.cache_registry.address] = registry_settings(config.cache_registry, any_address=True)
    from_config = Timeouts(
        idle=config.registry_timeout, grace=config.blob_grace, slowest=config.min_bytes_per_second
    )
    return Registries(
        settings,
        allowed_networks=config.allowed_source_networks,
        timeouts=from_config if timeouts is None else timeouts,
        retries=retries,
        policy=ClientPolicy(
            limits=_limits(config.registry_traffic),
            rate_limit_floor=config.rate_limit_floor,
            auth_file=config.registry_auth_file,
            helper_time_limit=config.credential_helper_timeout,
        ),
    )


def open_cells_view(
    config: Config,
    *,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - a frozen value
    retries: Retries = Retries(),  # noqa: B008 - a frozen value
) -> Registries:
    """Open a client of the private registry with what cells have: the login for them, or none."""
    own = registry_settings(config.cache_registry, any_address=True)
    settings = replace(own, credentials=pull_credentials(config))
    return Registries({config.cache_registry.address: settings}, timeouts=timeouts, retries=retries)


def pull_credentials(config: Config) -> Credentials | None:
    """Read the login that cells get for the private registry; None for none."""
    if config.cache_pull_username is None or config.cache_pull_password_file is None:
        return None
    return Credentials(config.cache_pull_username, Secret(read_secret(config.cache_pull_password_file)))


def registry_settings(registry: RegistryConfig, *, any_address: bool) -> RegistrySettings:
    """Say how one registry is reached.

    Args:
        registry: As the operator has set it.
        any_address: Whether it may have a private address: the private registry.
    """
    credentials = None
    if registry.username is not None and registry.password_file is not None:
        credentials = Credentials(registry.username, Secret(read_secret(registry.password_file)))
    return RegistrySettings(
        plain_http=registry.plain_http,
        ca_file=registry.ca_cert_file,
        client_cert_file=registry.client_cert_file,
        client_key_file=registry.client_key_file,
        credentials=credentials,
        any_address=any_address,
        limits=None if registry.traffic is None else _limits(registry.traffic),
    )


def _limits(traffic: TrafficConfig) -> TrafficLimits:
    return TrafficLimits(
        connections=traffic.max_connections,
        requests_per_second=traffic.max_requests_per_second,
        bytes_per_second=traffic.max_bytes_per_second,
    )
