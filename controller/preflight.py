"""Refuses a config that the daemon could not start with, without changing anything or asking the network.

`config check` and `run` both start with it, so that the first reports what the second would refuse. What only
other systems can tell, such as a peer that refuses a certificate, is checked by doctor.
"""

import os
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from controller.bbs.address import check_address
from controller.capi.origin import parse_origin
from controller.config import (
    Config,
    ConfigError,
    LoggregatorConfig,
    RegistryConfig,
    load_config,
    read_secret,
)
from controller.database_location import location_of
from controller.recorded_registries import advice_about, others
from controller.registry.auth.auth_file import AuthFile
from controller.registry.oci.platforms import parse_platform
from controller.store.cipher import cipher_from_key
from controller.store.inspection import check_database, recorded_registries
from reconcile.errors import DockerCacheError, Invalid

_HIGHEST_PORT = 65535
_ALL_HOSTS = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 - it is looked for, and not listened on

T = TypeVar("T")


def load_usable_config(path: Path) -> Config:
    """Read a config and check all files that it names; blocks.

    Raises:
        ConfigError: The daemon would not start with it; one line for each problem, with its key.
    """
    config = load_config(path)
    if problems := list(problems_of(config)):
        raise ConfigError("\n  ".join([f"config file {path} cannot be used:", *problems]))
    return config


def warnings_of(config: Config) -> tuple[str, ...]:
    """List settings that are valid, and are more often a mistake than intended; blocks."""
    found = [*config.warnings, *_admin_client_warnings(config)]
    if config.docker_socket is not None and not _socket_of(config.docker_socket).exists():
        found.append(
            f"docker_socket: {_socket_of(config.docker_socket)} does not exist: nothing can be copied"
        )
    with suppress(DockerCacheError):  # a problem of the database is one of `problems_of`
        cache, recorded = config.cache_repositories, recorded_registries(location_of(config))
        found += [
            f"former_cache_registries: {advice_about(address, recorded[address], cache)}"
            for address in others(recorded, cache)
        ]
    return tuple(found)


def problems_of(config: Config) -> Iterator[str]:
    """Describe each problem of a config and of the files that it names, with its key; blocks."""
    yield from _problem("bbs_address", check_address, config.bbs_address)
    yield from _port_problem("admin_address", config.admin_address)
    yield from _port_problem("metrics_address", config.metrics_address)
    yield from _port_problem("healthcheck_address", config.healthcheck_address)
    yield from _port_problem("debug_address", config.debug_address)
    yield from _port_problem("locket_address", config.locket_address)
    yield from _shared_address_problems(config)
    yield from _authorities_problem("bbs_ca_cert_file", config.bbs_ca_cert_file)
    yield from _pair_problem("bbs_client", config.bbs_client_cert_file, config.bbs_client_key_file)
    yield from _authorities_problem("cloud_controller_ca_cert_file", config.cloud_controller_ca_cert_file)
    if config.cloud_controller_api_url is not None:
        yield from _problem("cloud_controller_api_url", parse_origin, config.cloud_controller_api_url)
    yield from _authorities_problem("locket_ca_cert_file", config.locket_ca_cert_file)
    yield from _pair_problem("locket_client", config.locket_client_cert_file, config.locket_client_key_file)
    yield from _loggregator_problems(config.loggregator)
    yield from _authorities_problem("admin_ca_cert_file", config.admin_ca_cert_file)
    yield from _pair_problem("admin_server", config.admin_server_cert_file, config.admin_server_key_file)
    yield from _authorities_problem("metrics_ca_cert_file", config.metrics_ca_cert_file)
    certificate, key = config.metrics_server_cert_file, config.metrics_server_key_file
    yield from _pair_problem("metrics_server", certificate, key)
    yield from _registry_problems("cache_registry", config.cache_registry)
    for at, former in enumerate(config.former_cache_registries):
        yield from _registry_problems(f"former_cache_registries.{at}", former)
    for at, registry in enumerate(config.registries):
        yield from _registry_problems(f"registries.{at}", registry)
    if config.journal_key_file is not None:
        yield from _problem("journal_key_file", _read_journal_key, config.journal_key_file)
    if config.registry_auth_file is not None:
        yield from _problem("registry_auth_file", AuthFile, config.registry_auth_file)
    if config.platforms != "all":
        yield from _problem("platforms", parse_platform, config.platforms)
    yield from _problem("database_url", _check_database, config)
    yield from _authorities_problem("database_ca_cert_file", config.database_ca_cert_file)
    if config.docker_socket is not None:
        yield from _socket_problem("docker_socket", _socket_of(config.docker_socket))


def _problem(key: str, check: Callable[[T], object], value: T) -> Iterator[str]:
    try:
        check(value)
    except Invalid as error:
        yield f"{key}: {error.detail}"
    except OSError as error:
        yield f"{key}: {error}"


def _check_database(config: Config) -> None:
    check_database(location_of(config))


def _read_journal_key(path: Path) -> None:
    cipher_from_key(read_secret(path).encode())


def _registry_problems(key: str, registry: RegistryConfig) -> Iterator[str]:
    yield from _authorities_problem(f"{key}.ca_cert_file", registry.ca_cert_file)
    yield from _pair_problem(f"{key}.client", registry.client_cert_file, registry.client_key_file)


def _loggregator_problems(agent: LoggregatorConfig) -> Iterator[str]:
    if not agent.loggregator_use_v2_api:
        return
    key = "loggregator.loggregator"
    yield from _authorities_problem(f"{key}_ca_path", agent.loggregator_ca_path)
    certificate, private_key = agent.loggregator_cert_path, agent.loggregator_key_path
    if certificate is not None and private_key is not None:
        yield from _files_problem(f"{key}_cert_path, {key}_key_path", certificate, private_key)


def _authorities_problem(key: str, path: Path | None) -> Iterator[str]:
    if path is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        yield f"{key}: {path} holds no CA certificates in PEM"
    except OSError as error:
        yield f"{key}: cannot read {path}: {error.strerror}"


def _pair_problem(prefix: str, certificate: Path | None, private_key: Path | None) -> Iterator[str]:
    if certificate is None or private_key is None:
        return
    yield from _files_problem(f"{prefix}_cert_file, {prefix}_key_file", certificate, private_key)


def _files_problem(keys: str, certificate: Path, private_key: Path) -> Iterator[str]:
    try:
        # With a password, even an empty one, an encrypted key fails instead of asking for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, private_key, password="")
    except ssl.SSLError:
        yield f"{keys}: {certificate} and {private_key} are not a certificate and its unencrypted key in PEM"
    except OSError as error:
        yield f"{keys}: cannot read {certificate} or {private_key}: {error.strerror}"


def _port_problem(key: str, address: str | None) -> Iterator[str]:
    port = 0 if address is None else int(address.rpartition(":")[2])
    if port > _HIGHEST_PORT:
        yield f"{key}: {port} is no port: the highest is {_HIGHEST_PORT}"


def _shared_address_problems(config: Config) -> Iterator[str]:
    """Find addresses of the daemon's own servers of which only one could listen."""
    given = {
        "admin_address": config.admin_address,
        "metrics_address": config.metrics_address,
        "healthcheck_address": config.healthcheck_address,
        "debug_address": config.debug_address,
    }
    listening = [(key, *address.rpartition(":")[::2]) for key, address in given.items() if address]
    for (first, host, port), (second, other_host, other_port) in combinations(listening, 2):
        is_same_host = host.lower() == other_host.lower() or not _ALL_HOSTS.isdisjoint({host, other_host})
        if is_same_host and int(port) == int(other_port) != 0:
            yield f"{second}: {first} has port {port} too: each server needs a port of its own"


def _admin_client_warnings(config: Config) -> Iterator[str]:
    """Find what would fail each command; the daemon itself need not be allowed to read these files."""
    certificate, key = config.admin_client_cert_file, config.admin_client_key_file
    if all(file is not None and os.access(file, os.R_OK) for file in (certificate, key)):
        yield from _pair_problem("admin_client", certificate, key)


def _socket_of(url: str) -> Path:
    return Path(url.removeprefix("unix://"))


def _socket_problem(key: str, path: Path) -> Iterator[str]:
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except FileNotFoundError:
        return  # the docker daemon may be started later
    except OSError as error:
        yield f"{key}: {path} cannot be checked: {error.strerror}"
    else:
        if not is_socket:
            yield f"{key}: {path} is not a socket"
