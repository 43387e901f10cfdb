"""Lists what is in the image as an SPDX document: each Debian package and wheel, with version and digest.

Facts: SPDX specification 2.3 in its JSON form, and the purl specification for names of packages. Licenses are
those that wheels declare as SPDX expressions; Debian's are in the `copyright` files, which the image has.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.utils import canonicalize_name

from hack.oci_image.debian import RELEASE, DebianPackage

_UNKNOWN = "NOASSERTION"
_DOCUMENT = "SPDXRef-DOCUMENT"
_IMAGE = "SPDXRef-image"


@dataclass(frozen=True, slots=True)
class Image:
    """What the document is about."""

    name: str
    version: str
    created: str
    homepage: str


def document(image: Image, packages: Iterable[DebianPackage], wheels: Iterable[Path]) -> bytes:
    """Write the document; the same packages give the same bytes."""
    parts = [*map(_debian_part, packages), *map(_wheel_part, wheels)]
    contents = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    written = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": f"{image.name}-{image.version}",
        "documentNamespace": f"{image.homepage}/sbom/{image.version}-{contents}",
        "creationInfo": {"created": image.created, "creators": [f"Tool: {image.name}-hack-image"]},
        "packages": [_image_part(image), *parts],
        "relationships": [*_relationships(parts)],
    }
    return json.dumps(written, indent=1).encode() + b"\n"


def _image_part(image: Image) -> dict[str, Any]:
    return {
        "SPDXID": _IMAGE,
        "name": image.name,
        "versionInfo": image.version,
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "homepage": image.homepage,
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": _UNKNOWN,
        "copyrightText": _UNKNOWN,
        "primaryPackagePurpose": "CONTAINER",
    }


def _relationships(parts: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    yield {"spdxElementId": _DOCUMENT, "relationshipType": "DESCRIBES", "relatedSpdxElement": _IMAGE}
    for part in parts:
        yield {
            "spdxElementId": _IMAGE,
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": part["SPDXID"],
        }


def _debian_part(package: DebianPackage) -> dict[str, Any]:
    purl = (
        f"pkg:deb/debian/{quote(package.name, safe='')}@{quote(package.version, safe='')}"
        f"?arch={package.architecture}&distro={RELEASE}"
    )
    return {
        **_part("deb", package.name, package.version, package.file, purl),
        "supplier": "Organization: Debian",
        "licenseDeclared": _UNKNOWN,
        "sourceInfo": f"built from the source package {package.source}",
        "comment": f"its licenses are in /usr/share/doc/{package.name}/copyright",
    }


def _wheel_part(wheel: Path) -> dict[str, Any]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", each))
        metadata = message_from_bytes(archive.read(name))
    name, version = canonicalize_name(metadata["Name"]), metadata["Version"]
    purl = f"pkg:pypi/{name}@{quote(version, safe='')}"
    return {
        **_part("pypi", name, version, wheel, purl),
        "licenseDeclared": metadata["License-Expression"] or _UNKNOWN,
    }


def _part(kind: str, name: str, version: str, file: Path, purl: str) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-{kind}-{re.sub('[^A-Za-z0-9.-]', '-', name)}",
        "name": name,
        "versionInfo": version,
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "packageFileName": file.name,
        "checksums": [
            {"algorithm": "SHA256", "checksumValue": hashlib.sha256(file.read_bytes()).hexdigest()}
        ],
        "licenseConcluded": _UNKNOWN,
        "copyrightText": _UNKNOWN,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl,
            }
        ],
    }
