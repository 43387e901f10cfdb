"""Names platforms, and says which of those that an index offers fit one, and which of them cells prefer.

A platform in the config is normalised. One in an index is not: cells compare it as it is written.

Source: OCI image index specification; containerd platforms (normalisation); containers/image
internal/pkg/platform/platform_matcher.go, which cells choose by (grootfs and groot of 2024 and 2026).
"""

import re
from dataclasses import dataclass

from reconcile.errors import Invalid

_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}
_IMPLIED = {("arm64", "v8"), ("amd64", "v1")}
_DETECTED = {"arm64": "v8"}
"""The variant that a cell of an architecture finds itself to be; on amd64 it looks for none."""
_LOWER_VARIANTS = {"arm": ("v8", "v7", "v6", "v5"), "arm64": ("v8",)}
"""Variants from the most capable on; each runs images for those after it. Others run their own alone."""


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


def rank_of(wanted: Platform, offered: Platform) -> int | None:
    """Rank an offered platform, the lowest is preferred; None when it does not fit the wanted one.

    Its own variant comes first, then lower ones, then none. The version of Windows counts only where the
    wanted platform has one, since cells do not look at it.
    """
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    if wanted.os_version and offered.os_version and _build(wanted) != _build(offered):
        return None
    variants = _fitting_variants(wanted)
    return variants.index(offered.variant) if offered.variant in variants else None


def _fitting_variants(wanted: Platform) -> tuple[str, ...]:
    """List the variants that fit a platform, in the order of a cell's preference."""
    variant = wanted.variant or _DETECTED.get(wanted.architecture, "")
    if not variant:
        return ("", *_LOWER_VARIANTS.get(wanted.architecture, ()))
    known = _LOWER_VARIANTS.get(wanted.architecture, ())
    return (*(known[known.index(variant) :] if variant in known else (variant,)), "")


def _build(platform: Platform) -> list[str]:
    """Return what two compatible versions of Windows share: major, minor and build number."""
    return platform.os_version.split(".")[:3]
