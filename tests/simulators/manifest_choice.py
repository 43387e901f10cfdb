"""Which manifest of an index a cell takes.

Source: containers/image internal/manifest/oci_index.go and docker_schema2_list.go,
internal/pkg/platform/platform_matcher.go; measured: in an OCI index an entry without a platform is taken when no
other fits, and one with an empty platform is not.
"""

from typing import Any

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEXES = (OCI_INDEX, DOCKER_LIST)
PLATFORM = ("linux", "amd64", "")
ZSTD = "io.github.containers.compression.zstd"

Json = dict[str, Any]


class NoneFits(Exception):
    """An index offers nothing for a cell; the text says so as the cell does."""


def choose_manifest(index: Json, media_type: str) -> Json:
    """Give the descriptor of the manifest that is run.

    Of several that fit, an OCI index gives the one marked as zstd, whatever its layers are; a Docker list
    gives the first.

    Raises:
        NoneFits: None does.
    """
    entries = index.get("manifests") or ()
    fitting = [each for each in entries if _fits(each)]
    if media_type == OCI_INDEX:
        fitting = fitting or [each for each in entries if each.get("platform") is None]
        fitting.sort(key=lambda each: (each.get("annotations") or {}).get(ZSTD) != "true")
    if fitting:
        found: Json = fitting[0]
        return found
    kind = "image index" if media_type == OCI_INDEX else "manifest list"
    system, architecture, variant = PLATFORM
    text = f'architecture "{architecture}", variant "{variant}", OS "{system}"'
    raise NoneFits(f"no image found in {kind} for {text}")


def _fits(descriptor: Json) -> bool:
    platform = descriptor.get("platform") or {}
    return (platform.get("os"), platform.get("architecture"), platform.get("variant") or "") == PLATFORM
