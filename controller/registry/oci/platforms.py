"""Chooses the manifest of one platform out of an index.

Source: OCI image index specification; containerd platforms (normalisation and variants).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from reconcile.errors import Invalid

_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}
_VARIANTS = {"arm64": ("v8",), "amd64": ("v1", "v2", "v3", "v4"), "arm": ("v5", "v6", "v7", "v8")}
_IMPLIED = {("arm64", "v8"), ("amd64", "v1")}


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform of an image, in Go's terms; variant and version may be empty.

    Attributes:
        os_version: Of Windows, where an image runs on hosts of the same build only.
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        os = f"{self.os}({self.os_version})" if self.os_version else self.os
        return "/".join(part for part in (os, self.architecture, self.variant) if part)


LINUX_AMD64 = Platform("linux", "amd64")


_PLATFORM = re.compile(r"([A-Za-z0-9_]+)(?:\(([0-9.]+)\))?/([A-Za-z0-9_]+)(?:/([A-Za-z0-9_]+))?", re.ASCII)


def normalised(os: str, architecture: str, variant: str = "", os_version: str = "") -> Platform:
    """Return the canonical spelling of a platform."""
    os, architecture, variant = os.lower(), architecture.lower(), variant.lower()
    if architecture in {"armhf", "armel"}:
        architecture, variant = "arm", "v7" if architecture == "armhf" else "v6"
    architecture = _ARCHITECTURES.get(architecture, architecture)
    if architecture == "arm" and not variant:
        variant = "v7"
    variant = "" if (architecture, variant) in _IMPLIED else variant
    return Platform(os, architecture, variant, os_version if os == "windows" else "")


def parse_platform(text: str) -> Platform:
    """Parse "os/architecture" with an optional "/variant", and with the version of Windows after the os.

    Raises:
        Invalid: `bad-platform`.
    """
    match = _PLATFORM.fullmatch(text)
    if match is None:
        raise Invalid("image", "bad-platform", f"{text[:64]!r} is not a platform: write os/architecture")
    os, os_version, architecture, variant = match.groups(default="")
    return normalised(os, architecture, variant, os_version)


T = TypeVar("T")


def _rank(wanted: Platform, offered: Platform) -> int | None:
    """Rank an offered platform, higher is better; None when it does not run on the wanted one."""
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    if wanted.os_version and offered.os_version and _build(wanted) != _build(offered):
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


def _build(platform: Platform) -> list[str]:
    """Return what two compatible versions of Windows share: major, minor and build number."""
    return platform.os_version.split(".")[:3]


def best_first(entries: Iterable[tuple[Platform | None, T]], wanted: Platform) -> list[T]:
    """Select what runs on a platform, best first: exact matches, lower variants, then entries without one."""
    ranked: list[tuple[int, T]] = []
    for platform, entry in entries:
        rank = -1 if platform is None else _rank(wanted, platform)
        if rank is not None:
            ranked.append((-rank, entry))
    return [entry for _, entry in sorted(ranked, key=lambda pair: pair[0])]
