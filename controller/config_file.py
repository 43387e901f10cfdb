"""Reads a config file as JSON, and checks single values. Both the daemon and the commands use it."""

import json
import re
from ipaddress import ip_address
from pathlib import Path

from reconcile.errors import Invalid

ADDRESS = r"^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$"
"""Pattern of "host:port"."""

_COMMENT = re.compile(r"^[ \t]*//.*$", flags=re.MULTILINE)


class ConfigError(Invalid):
    """The config file cannot be used; each line of `detail` names a key."""

    def __init__(self, detail: str) -> None:
        super().__init__("config", "invalid-config", detail)

    def __post_init__(self) -> None:
        """Keep the lines: they are about the operator's own file."""

    def __str__(self) -> str:
        return self.detail


def read_values(path: Path) -> object:
    """Read the values of a config file without checking them.

    Raises:
        ConfigError: The file cannot be read, or is not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read config file {path}: {reason}") from error
    try:
        return json.loads(_without_comments(text))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"config file {path} is not JSON: {error}") from error


def unusable(path: Path, lines: list[str]) -> ConfigError:
    """Make the error of a file whose values are wrong; each line names a key."""
    return ConfigError("\n".join([f"config file {path} cannot be used:", *(f"  {line}" for line in lines)]))


def _without_comments(text: str) -> str:
    """Replace comments, the lines that begin with "//", by spaces.

    The spaces keep the positions that errors in the JSON name. No comment can be inside a string, since JSON
    allows no line break there.
    """
    return _COMMENT.sub(lambda comment: " " * len(comment[0]), text)


def absolute_path(value: object) -> Path:
    """Read a path.

    Raises:
        ValueError: It is relative.
    """
    path = Path(str(value))
    if not path.is_absolute():
        raise ValueError(f"{path} is not an absolute path")
    return path


def existing_file(value: object) -> Path:
    """Read the path of a file that can be read.

    Raises:
        ValueError: It is relative, or the file cannot be read.
    """
    path = absolute_path(value)
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


def is_loopback(address: str) -> bool:
    """Tell whether "host:port" can be reached from this machine alone."""
    host = address.rpartition(":")[0].strip("[]").lower()
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name: what it resolves to is not known here
        return False


def check_without_tls(address: str, tls_keys: list[str]) -> None:
    """Check the keys of an admin API that is to be without TLS.

    Raises:
        ValueError: Others could reach it, or keys that only TLS needs are given.
    """
    if not is_loopback(address):
        raise ValueError(f"admin_without_tls: the host of admin_address, {address}, is no loopback address")
    if tls_keys:
        raise ValueError(f"admin_without_tls: remove {', '.join(tls_keys)}, which only TLS uses")


TLS_KEYS = (
    "admin_ca_cert_file",
    "admin_server_cert_file",
    "admin_server_key_file",
    "admin_client_cert_file",
    "admin_client_key_file",
    "admin_server_name",
)
"""Keys of the admin API that only TLS needs."""
