"""Durations, sizes, files and addresses as the config file writes them."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from controller.config_file import ADDRESS, absolute_path, existing_file, is_loopback

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+")


def parse_duration(value: object) -> float:
    """Read a duration as Go writes it, such as "1m30s", in seconds.

    Raises:
        ValueError: Anything else, numbers included: nobody can tell their unit.
    """
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ValueError('write a duration with its unit, such as "30s", "250ms" or "1m30s"')
    return sum(float(n) * _UNITS[unit] for n, unit in re.findall(r"(?<![0-9.])([0-9.]+)(ms|s|m|h)", value))


def format_duration(seconds: float) -> str:
    """Write a duration so that `parse_duration` reads it."""
    return f"{seconds:.10g}s"


_SIZES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"([0-9]+) ?(B|KiB|MiB|GiB|TiB)?")


def parse_size(value: object) -> int:
    """Read a size such as "4GiB" or a number of bytes, in bytes.

    Raises:
        ValueError: Anything else.
    """
    match = (
        _SIZE.fullmatch(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
    )
    if match is None:
        raise ValueError('write a size in bytes, or with a unit such as "512MiB" or "4GiB"')
    return int(match[1]) * _SIZES[match[2] or ""]


def format_size(size: int) -> str:
    """Write a size in the largest unit that leaves no rest, so that `parse_size` reads it."""
    unit = next(unit for unit in ("TiB", "GiB", "MiB", "KiB", "B") if size % _SIZES[unit] == 0)
    return f"{size // _SIZES[unit]}{unit}"


def _secret_file(value: object) -> Path:
    path = existing_file(value)
    try:
        is_empty = not read_secret(path)
    except UnicodeDecodeError:
        raise ValueError(f"{path} holds no text in UTF-8") from None
    if is_empty:
        raise ValueError(f"{path} is empty")
    return path


def read_secret(path: Path) -> str:
    """Read a secret from its file, without the line end."""
    return path.read_text(encoding="utf-8").rstrip("\r\n")


def _loopback(address: str) -> str:
    if not is_loopback(address):
        raise ValueError(f"the host of {address} is no loopback address")
    return address


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
NonNegativeDuration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
FilePath = Annotated[Path, BeforeValidator(absolute_path)]
"""An absolute path of a file that another process reads, so that it need not exist here."""
ReadableFile = Annotated[Path, BeforeValidator(existing_file)]
SecretFile = Annotated[Path, BeforeValidator(_secret_file)]
Address = Annotated[str, Field(pattern=ADDRESS)]
LoopbackAddress = Annotated[str, Field(pattern=ADDRESS), AfterValidator(_loopback)]
"""An address that can be reached from this machine alone."""
