"""Writes into the BOSH job the config keys that have a property of the same name, with meaning and default.

Started by hack/update-docs; tests/deploy compares what it writes with what the files hold. A key that is a
file has a property with the text instead, and some keys have the names that the Diego family uses: those are
in `PROPERTIES`, and written by hand into spec and template.
"""

import json
import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from controller.config import Config, descriptions_of
from controller.config.example import written_default

JOB = Path(__file__).parent.parent / "deploy" / "bosh" / "jobs" / "docker_cache"
SCOPE = "diego.docker_cache"

_ADMIN = ("ca_cert", "server_cert", "server_key", "client_cert", "client_key")
_CLIENT = ("ca_cert", "client_cert", "client_key")

PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "uuid": (),
    "bbs_address": ("bbs.api_location",),
    **{f"bbs_{each}_file": (f"bbs.{each}",) for each in _CLIENT},
    "locket_address": ("locks.locket.enabled", "locks.locket.hostname", "locks.locket.port"),
    **{f"locket_{each}_file": (f"bbs.{each}",) for each in _CLIENT},
    "database_url": tuple(f"sql.db_{each}" for each in ("driver", "host", "port", "schema", "username")),
    "database_password_file": ("sql.db_password",),
    "database_ca_cert_file": ("sql.ca_cert",),
    "journal_key_file": ("journal.encryption_keys", "journal.active_key_label"),
    "cache_registry": tuple(
        f"cache_registry.{each}"
        for each in ("address", "plain_http", *_CLIENT, "username", "password", "other_hosts", "traffic")
    ),
    "former_cache_registries": ("former_cache_registries",),
    "registries": ("registries",),
    "cache_pull_password_file": ("cache_pull_password",),
    "registry_auth_file": ("registry_auth",),
    "cloud_controller_api_url": ("cloud_controller_api_url",),
    "cloud_controller_ca_cert_file": ("cloud_controller_ca_cert",),
    "uaa_client_id": ("uaa.client_name",),
    "uaa_client_secret_file": ("uaa.client_secret",),
    "admin_address": ("admin.address",),
    **{f"admin_{each}_file": (f"admin.{each}",) for each in _ADMIN},
    "admin_server_name": ("admin.server_name",),
    "admin_without_tls": ("admin.without_tls",),
    "metrics_address": ("metrics.host", "metrics.port"),
    "metrics_ca_cert_file": ("metrics.ca_cert",),
    "metrics_server_cert_file": ("metrics.cert",),
    "metrics_server_key_file": ("metrics.key",),
    "loggregator": tuple(
        f"loggregator.{each}" for each in ("use_v2_api", "v2_api_port", "ca_cert", "cert", "key")
    ),
    "healthcheck_address": ("healthcheck_address",),
    "debug_address": ("debug_addr",),
    "time_format": ("logging.format.timestamp",),
}
"""Config key to the properties that it is made of, without `SCOPE`: keys with other names, values or
defaults."""

GLOBAL = ("locks.", "loggregator.", "logging.", "metrics.")
"""How the names of properties begin that are not in `SCOPE`: jobs of the Diego family share them."""

SAME = tuple(key for key in Config.model_fields if key not in PROPERTIES)
"""Config keys that have a property of the same name."""


def property_name(name: str) -> str:
    """Give the full name of a property."""
    return name if name.startswith(GLOBAL) else f"{SCOPE}.{name}"


def properties() -> str:
    """Write the part of the job's spec about `SAME`."""
    descriptions, lines = descriptions_of(Config), list[str]()
    for key in SAME:
        field = Config.model_fields[key]
        lines += [f"  {property_name(key)}:", "    description: >-"]
        about = _with_properties(" ".join(descriptions[key].split()))
        lines += textwrap.wrap(
            about, 116, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False
        )
        if not (field.is_required() or field.default is None):
            lines.append(f"    default: {json.dumps(_default(field))}")
    return "\n".join(lines) + "\n"


def keys() -> str:
    """Write the part of the config's template about `SAME`."""
    lines = textwrap.wrap(
        " ".join(SAME), 112, initial_indent=" " * 4, subsequent_indent=" " * 4, break_on_hyphens=False
    )
    return "\n".join(["  keys = %w[", *lines, "  ]"]) + "\n"


def differences() -> str:
    """Write the table of config keys whose properties have other names."""
    rows = ["| config key | property |", "| --- | --- |"]
    for key, names in PROPERTIES.items():
        if names == (key,):
            continue
        shown = ", ".join(f"`{name}`" for name in names) or "none: the ID of the instance"
        rows.append(f"| `{key}` | {shown} |")
    return "\n".join(rows)


WRITTEN: Mapping[Path, tuple[str, Callable[[], str]]] = {
    JOB / "spec": ("properties", properties),
    JOB / "templates" / "docker_cache.json.erb": ("keys", keys),
}
"""What is written: the name of its marks, and what writes it."""


def with_current_part(path: Path, text: str) -> str:
    """Put what is written between its marks, which a file has once.

    Raises:
        ValueError: A mark is missing.
    """
    name, write = WRITTEN[path]
    found = re.search(rf"(?s)^(.*\n  # begin of {name}\b[^\n]*\n).*?(  # end of {name}\n.*)$", text)
    if found is None:
        raise ValueError(f"no marks of {name}")
    return f"{found[1]}{write()}{found[2]}"


def _with_properties(text: str) -> str:
    """Name properties where a description names config keys."""
    for key, names in PROPERTIES.items():
        if names:
            text = text.replace(f"`{key}`", f"`{names[0]}`")
    return text


def _default(field: FieldInfo) -> object:
    return {} if isinstance(field.default, BaseModel) else written_default(field)
