"""Writes a complete config file to edit: every key with its description and its default."""

import json
import textwrap
from collections.abc import Mapping
from typing import get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from controller.config.descriptions import descriptions_of
from controller.config.model import Config
from controller.config.sections import Section
from controller.config.values import format_duration, format_size, parse_duration, parse_size

_WIDTH = 100

_HEADER = """\
// Config of diego-docker-cache. Lines that begin with "//" are comments.
//
// A key that is commented out is not set, and its value is only an example; any other key has its
// default, unless it is required. Durations are written with their unit ("30s", "1m30s"), sizes in
// bytes or with a unit ("4GiB"). JSON wants a comma after each key but the last one between braces.
"""

_CERTS = "/var/vcap/jobs/docker_cache/config/certs"
_SECRETS = "/var/vcap/jobs/docker_cache/config/secrets"

_EXAMPLES: Mapping[str, str | int | float] = {
    "admin_address": "127.0.0.1:17090",
    "admin_ca_cert_file": f"{_CERTS}/admin/ca.crt",
    "admin_server_cert_file": f"{_CERTS}/admin/server.crt",
    "admin_server_key_file": f"{_CERTS}/admin/server.key",
    "admin_client_cert_file": f"{_CERTS}/admin/client.crt",
    "admin_client_key_file": f"{_CERTS}/admin/client.key",
    "admin_server_name": "docker-cache.service.cf.internal",
    "uuid": "3a1f9d2c-7b1e-4c0f-9d55-0f6f3f1c2a7e",
    "locket_address": "locket.service.cf.internal:8891",
    "locket_ca_cert_file": f"{_CERTS}/bbs/ca.crt",
    "locket_client_cert_file": f"{_CERTS}/bbs/client.crt",
    "locket_client_key_file": f"{_CERTS}/bbs/client.key",
    "cloud_controller_api_url": "https://api.sys.example.com",
    "cloud_controller_ca_cert_file": f"{_CERTS}/capi/ca.crt",
    "uaa_client_id": "docker-cache",
    "uaa_client_secret_file": f"{_SECRETS}/uaa_client",
    "loggregator.loggregator_ca_path": f"{_CERTS}/loggregator/ca.crt",
    "loggregator.loggregator_cert_path": f"{_CERTS}/loggregator/client.crt",
    "loggregator.loggregator_key_path": f"{_CERTS}/loggregator/client.key",
    "metrics_address": "127.0.0.1:17091",
    "metrics_ca_cert_file": f"{_CERTS}/metrics/ca.crt",
    "metrics_server_cert_file": f"{_CERTS}/metrics/server.crt",
    "metrics_server_key_file": f"{_CERTS}/metrics/server.key",
    "healthcheck_address": "127.0.0.1:17092",
    "debug_address": "127.0.0.1:17093",
    "bbs_address": "https://bbs.service.cf.internal:8889",
    "bbs_ca_cert_file": f"{_CERTS}/bbs/ca.crt",
    "bbs_client_cert_file": f"{_CERTS}/bbs/client.crt",
    "bbs_client_key_file": f"{_CERTS}/bbs/client.key",
    "database_url": "sqlite:////var/vcap/store/docker_cache/cache.db",
    "database_password_file": f"{_SECRETS}/database",
    "database_ca_cert_file": f"{_CERTS}/database/ca.crt",
    "journal_key_file": f"{_SECRETS}/journal.key",
    "cache_registry.address": "cache.example:8080",
    "cache_registry.ca_cert_file": f"{_CERTS}/cache_registry/ca.crt",
    "cache_registry.client_cert_file": f"{_CERTS}/cache_registry/client.crt",
    "cache_registry.client_key_file": f"{_CERTS}/cache_registry/client.key",
    "cache_registry.username": "docker-cache",
    "cache_registry.password_file": f"{_SECRETS}/cache_registry",
    "former_cache_registries.address": "old-cache.example:8080",
    "former_cache_registries.ca_cert_file": f"{_CERTS}/old_cache/ca.crt",
    "former_cache_registries.client_cert_file": f"{_CERTS}/old_cache/client.crt",
    "former_cache_registries.client_key_file": f"{_CERTS}/old_cache/client.key",
    "former_cache_registries.username": "docker-cache",
    "former_cache_registries.password_file": f"{_SECRETS}/old_cache",
    "former_cache_registries.repository_template": "{guid}:latest",
    "cache_pull_username": "cells",
    "cache_pull_password_file": f"{_SECRETS}/cache_pull",
    "registries.address": "registry.example",
    "registries.ca_cert_file": f"{_CERTS}/registry/ca.crt",
    "registries.client_cert_file": f"{_CERTS}/registry/client.crt",
    "registries.client_key_file": f"{_CERTS}/registry/client.key",
    "registries.username": "docker-cache",
    "registries.password_file": f"{_SECRETS}/registry",
    "traffic.max_connections": 16,
    "traffic.max_requests_per_second": 20,
    "traffic.max_bytes_per_second": "50MiB",
    "registry_auth_file": f"{_SECRETS}/registry_auth.json",
    "registry_traffic.max_connections": 32,
    "registry_traffic.max_requests_per_second": 50,
    "registry_traffic.max_bytes_per_second": "100MiB",
    "docker_socket": "unix:///var/run/docker.sock",
    "migrate_running_rules.migrate_running": "never",
    "restore_after": "10m",
}
"""Example values of the keys without a default, by "key", or by "section.key" for a key in a section."""


def example() -> str:
    """Write a config file that is valid as it is, apart from the hosts and files that it names."""
    return _HEADER + "\n".join(_section(Config, "", width=_WIDTH)) + "\n"


def _section(model: type[Section], name: str, *, width: int) -> list[str]:
    """Write the lines of one object, with all keys that it may have.

    The last key has no comma after it, so it is one that is not commented out, where there is such a key. Any
    other key has a comma, so that its comment marks can be removed.
    """
    keys = list(model.model_fields)
    descriptions = descriptions_of(model)
    last = next((key for key in reversed(keys) if not _is_unset(model.model_fields[key])), keys[-1])
    keys.remove(last)
    lines = ["{"]
    for key in (*keys, last):
        entry = [
            *_comment(descriptions[key], model.model_fields[key], width=width - 2),
            *_entry(model.model_fields[key], key, name, width=width - 2),
        ]
        if key != last:
            entry = [*entry[:-1], f"{entry[-1]},", ""]
        lines += _prefixed("  ", entry)
    return [*lines, "}"]


def _comment(description: str, field: FieldInfo, *, width: int) -> list[str]:
    """Write the lines that say what one key means."""
    about = " ".join(f"{description} {'Required.' if field.is_required() else ''}".split())
    lines = textwrap.wrap(about, width - len("// "), break_long_words=False, break_on_hyphens=False)
    return _prefixed("// ", lines)


def _entry(field: FieldInfo, key: str, section: str, *, width: int) -> list[str]:
    """Write the lines of one key: its name and its value."""
    mark = "// " if _is_unset(field) else ""
    first, *rest = _value(field, key, section, width=width - len(mark))
    return _prefixed(mark, [f'"{key}": {first}', *rest])


def _value(field: FieldInfo, key: str, section: str, *, width: int) -> list[str]:
    """Write the lines of a key's value: its default, or an example where there is none."""
    model = _section_in(field.annotation)
    if model is not None and get_origin(field.annotation) is tuple:
        element = _section(model, key, width=width - len("  // "))
        return ["[", *_prefixed("  // ", element), "]"]
    if model is not None:
        return _section(model, key, width=width)
    if field.is_required() or _is_unset(field):
        return [json.dumps(_EXAMPLES[f"{section}.{key}" if section else key])]
    return [json.dumps(written_default(field))]


def _written_duration(seconds: float) -> str:
    """Write a duration in hours or minutes where these leave no rest: "24h", "10m", "90s"."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.10g}{unit}"
    return format_duration(seconds)


def written_default(field: FieldInfo) -> object:
    """Return the default of a key as it is written in the file, such as "30s" instead of 30.0."""
    parsers = [each.func for each in field.metadata if isinstance(each, BeforeValidator)]
    if parse_duration in parsers:
        return _written_duration(field.default)
    if parse_size in parsers:
        return format_size(field.default)
    return field.default


def _is_unset(field: FieldInfo) -> bool:
    return not field.is_required() and field.default is None


def _section_in(annotation: object) -> type[Section] | None:
    """Find the section in a key's type: the type itself, optional, or in a tuple; None without one."""
    parts = (annotation, *get_args(annotation))
    return next((part for part in parts if isinstance(part, type) and issubclass(part, Section)), None)


def _prefixed(prefix: str, lines: list[str]) -> list[str]:
    return [f"{prefix}{line}".rstrip() for line in lines]
