"""Reads the keys of the daemon's config file that a command needs to call the daemon, and ignores all others.

Whoever runs the command need not be allowed to read the daemon's other files. No library reads
it, since each command would have to import that.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.config_file import ADDRESS, check_without_tls, existing_file, read_values, unusable

_FILES = ("admin_ca_cert_file", "admin_client_cert_file", "admin_client_key_file")
_NO_ADDRESS = "missing: the daemon has no admin API without it; --direct works without a daemon"


@dataclass(frozen=True, slots=True)
class AdminClientConfig:
    """How a command calls the daemon.

    Attributes:
        admin_address: Where the daemon's admin API listens, "host:port".
        admin_ca_cert_file: CA certificates that the daemon's certificate must chain to, in PEM.
        admin_client_cert_file: Certificate to present to the daemon, in PEM.
        admin_client_key_file: Key of that certificate, in PEM.
        admin_server_name: What must stand in the daemon's certificate, if not the host of `admin_address`.
        admin_without_tls: Speak without TLS; then there are no files and no name, else all three files.
    """

    admin_address: str
    admin_ca_cert_file: Path | None = None
    admin_client_cert_file: Path | None = None
    admin_client_key_file: Path | None = None
    admin_server_name: str | None = None
    admin_without_tls: bool = False


def load_admin_client_config(path: Path) -> AdminClientConfig:
    """Read and check what a command needs of the config file to call the daemon, and nothing else.

    Raises:
        ConfigError: The file cannot be read, is not JSON, or one of these keys is missing or wrong.
    """
    values = read_values(path)
    if not isinstance(values, dict):
        raise unusable(path, ["(the whole): Input should be an object"])
    problems, found = list[str](), dict[str, Any]()
    for key, read in _READERS.items():
        try:
            found[key] = read(values.get(key))
        except ValueError as error:
            problems.append(f"{key}: {error}")
    if not problems:
        try:
            _check_together(found)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise unusable(path, problems)
    return AdminClientConfig(**found)


def _address(value: object) -> str:
    if not value:
        raise ValueError(_NO_ADDRESS)
    if not isinstance(value, str) or not re.fullmatch(ADDRESS, value):
        raise ValueError('write a host with its port, such as "127.0.0.1:17090"')
    return value


def _file(value: object) -> Path | None:
    return None if value is None else existing_file(value)


def _name(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and value):
        raise ValueError("write a name")
    return value


def _truth(value: object) -> bool:
    if value is not None and not isinstance(value, bool):
        raise ValueError("write true or false")
    return bool(value)


_READERS = {
    "admin_address": _address,
    **dict.fromkeys(_FILES, _file),
    "admin_server_name": _name,
    "admin_without_tls": _truth,
}
"""Key to what reads its value, None where it is absent."""


def _check_together(found: Mapping[str, Any]) -> None:
    if found["admin_without_tls"]:
        given = [key for key in (*_FILES, "admin_server_name") if found[key] is not None]
        check_without_tls(found["admin_address"], given)
    elif missing := [key for key in _FILES if found[key] is None]:
        raise ValueError(f"{', '.join(missing)}: missing: a command and the daemon prove who they are")
