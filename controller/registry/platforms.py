"""Chooses the manifest of one platform out of an index.

Source: OCI image index specification; containerd platforms (normalisation and variants).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from reconcile.errors import Invalid

_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}
_VARIANTS = {"arm64": ("v8",), "amd64": ("v1", "v2", "v3", "v4"), "arm": ("v5", "v6", "v7", "v8")}
_IMPLIED = {("arm64", "v8"), ("amd64", "v1")}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on, in Go's words; the variant may be empty."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


LINUX_AMD64 = Platform("linux", "amd64")


def normalised(os: str, architecture: str, variant: str = "") -> Platform:
    """Give the one spelling of a platform."""
    os, architecture, variant = os.lower(), architecture.lower(), variant.lower()
    if architecture in {"armhf", "armel"}:
        architecture, variant = "arm", "v7" if architecture == "armhf" else "v6"
    architecture = _ARCHITECTURES.get(architecture, architecture)
    if architecture == "arm" and not variant:
        variant = "v7"
    return Platform(os, architecture, "" if (architecture, variant) in _IMPLIED else variant)


def parse_platform(text: str) -> Platform:
    """Read "os/architecture" with an optional "/variant".

    Raises:
        Invalid: `bad-platform`.
    """
    parts = text.split("/")
    if len(parts) not in {2, 3} or not all(part.replace("_", "").isalnum() for part in parts):
        raise Invalid("image", "bad-platform", f"{text[:64]!r} is not a platform: write os/architecture")
    return normalised(*parts)


T = TypeVar("T")


def _rank(wanted: Platform, offered: Platform) -> int | None:
    """Say how well an offer suits, higher is better; None when it does not run."""
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    if wanted.variant == offered.variant:
        return 100
    levels = _VARIANTS.get(wanted.architecture, ())
    lowest = levels[0] if levels else ""
    try:
        have, need = levels.index(offered.variant or lowest), levels.index(wanted.variant or lowest)
    except ValueError:
        return None
    return have if have <= need else None


def best_first(entries: Iterable[tuple[Platform | None, T]], wanted: Platform) -> list[T]:
    """Order what runs on a platform: exact matches, then lower variants, then what names no platform."""
    ranked: list[tuple[int, T]] = []
    for platform, entry in entries:
        rank = -1 if platform is None else _rank(wanted, platform)
        if rank is not None:
            ranked.append((-rank, entry))
    return [entry for _, entry in sorted(ranked, key=lambda pair: pair[0])]
