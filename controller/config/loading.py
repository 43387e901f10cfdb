"""Reads the config file, and says what is wrong with it."""

import json
import re
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from controller.config.admin import AdminClientConfig
from controller.config.model import Config
from controller.config.sections import Section
from reconcile.errors import Invalid

_COMMENT = re.compile(r"^[ \t]*//.*$", flags=re.MULTILINE)

_Model = TypeVar("_Model", bound=Section)


class ConfigError(Invalid):
    """The config file cannot be used; each line of `detail` names a key."""

    def __init__(self, detail: str) -> None:
        super().__init__("config", "invalid-config", detail)

    def __str__(self) -> str:
        return self.detail


def load_config(path: Path) -> Config:
    """Read and check the config file.

    Raises:
        ConfigError: The file cannot be read, is not JSON, or has keys that are unknown, missing or wrong.
    """
    return _load(path, Config)


def load_admin_client_config(path: Path) -> AdminClientConfig:
    """Read and check what a command needs of the config file to call the daemon, and nothing else.

    Whoever runs the command need not be allowed to read the daemon's other files.

    Raises:
        ConfigError: The file cannot be read, is not JSON, or one of these keys is missing or wrong.
    """
    return _load(path, AdminClientConfig)


def _load(path: Path, model: type[_Model]) -> _Model:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read config file {path}: {reason}") from error
    try:
        values = json.loads(_without_comments(text))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"config file {path} is not JSON: {error}") from error
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_explain(item["loc"], item["type"], item["msg"]) for item in error.errors()]
        raise ConfigError("\n".join([f"config file {path} cannot be used:", *lines])) from error


def _without_comments(text: str) -> str:
    """Blank the lines that begin with "//"; no string of JSON has a line break in it.

    Spaces stand in for what they said, so that an error in the JSON is told where it is in the file.
    """
    return _COMMENT.sub(lambda comment: " " * len(comment[0]), text)


def _explain(location: tuple[int | str, ...], kind: str, message: str) -> str:
    key = ".".join(str(part) for part in location) or "(the whole)"
    match kind:
        case "extra_forbidden":
            return f"  {key}: unknown key; `diego-docker-cache config example` shows all keys"
        case "missing":
            return f"  {key}: missing"
        case "value_error" if not location:  # about several keys, which the message names
            return f"  {message.removeprefix('Value error, ')}"
        case _:
            return f"  {key}: {message.removeprefix('Value error, ')}"
