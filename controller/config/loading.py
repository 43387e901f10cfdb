"""Reads the config file, and says what is wrong with it."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from controller.config.model import Config
from controller.config_file import read_values, unusable

_REMOVED: Mapping[str, str] = {
    "allowed_source_networks": "private networks belong to the registry that needs them: move each one to "
    "allowed_networks of that registry's entry in registries",
    "blob_grace": "a transfer is measured over min_rate_window, whatever its size",
}
"""Keys that configs of development versions have, and what to write instead."""


def load_config(path: Path) -> Config:
    """Read and check the config file.

    Raises:
        ConfigError: The file cannot be read, is not JSON, or has keys that are unknown, missing or wrong.
    """
    values = read_values(path)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [_explain(item["loc"], item["type"], item["msg"]) for item in error.errors()]
        raise unusable(path, lines) from error


def _explain(location: tuple[int | str, ...], kind: str, message: str) -> str:
    key = ".".join(str(part) for part in location) or "(the whole)"
    match kind:
        case "extra_forbidden" if key in _REMOVED:
            return f"{key}: no key any more: {_REMOVED[key]}"
        case "extra_forbidden":
            return f"{key}: unknown key; `diego-docker-cache config example` shows all keys"
        case "missing":
            return f"{key}: missing"
        case "value_error" if not location:  # about several keys, which the message names
            return message.removeprefix("Value error, ")
        case _:
            return f"{key}: {message.removeprefix('Value error, ')}"
