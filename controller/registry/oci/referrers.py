"""Lists the referrers of a manifest, such as signatures, and keeps the list where a registry does not.

Source: OCI distribution specification 1.1, "Listing Referrers" and "Referrers Tag Schema".
"""

import json
import re

from controller.registry.auth.challenges import merge_scopes, pull_scope
from controller.registry.http.links import next_page
from controller.registry.http.request import Request
from controller.registry.http.urls import Url
from controller.registry.oci.manifests import (
    MAX_ENTRIES,
    MAX_MANIFEST,
    OCI_INDEX,
    Descriptor,
    Document,
    Index,
    media_type_of,
    parse_document,
)
from controller.registry.oci.repository import Repository
from reconcile.answers import RegistryCall
from reconcile.errors import ErrorCode, Invalid, NotFound, Unavailable, Verdict
from reconcile.references import Digest

_MOST_PAGES = 20
_MOST_ROUNDS = 8
_ILLEGAL = re.compile(r"[^a-zA-Z0-9._-]")


def fallback_tag(subject: Digest) -> str:
    """Return the tag of the list of referrers, for registries without the referrers API."""
    return _ILLEGAL.sub("-", f"{subject.algorithm[:32]}-{subject.hex[:64]}")


def cosign_tags(subject: Digest) -> tuple[str, ...]:
    """Return the tags under which older versions of cosign keep signatures, attestations and SBOMs."""
    return tuple(f"{fallback_tag(subject)}.{suffix}" for suffix in ("sig", "att", "sbom"))


def list_referrers(repository: Repository, subject: Digest) -> tuple[Descriptor, ...]:
    """List the referrers of a manifest from the referrers API, or else from the fallback tag.

    Raises:
        Invalid: `index-too-large`, or the list cannot be parsed.
    """
    found = repository.session.retry(_from_api, repository, subject)
    if found is None:
        try:
            document = repository.fetch_manifest(fallback_tag(subject))
        except NotFound:
            return ()
        found = list(document.entries) if isinstance(document, Index) else []
    return tuple({entry.digest: entry for entry in found}.values())


def _from_api(repository: Repository, subject: Digest) -> list[Descriptor] | None:
    """List them from the referrers API; None when the registry has none."""
    url: Url | None = repository.session.url(f"referrers/{subject}")
    found: list[Descriptor] = []
    for _ in range(_MOST_PAGES):
        if url is None:
            return found
        page, url = _page(repository, url, str(subject))
        if page is None:
            return None
        found += page
        if len(found) > MAX_ENTRIES:
            break
    raise Invalid(
        "registry", ErrorCode.INDEX_TOO_LARGE, f"{repository.image.repository}@{subject}: too many referrers"
    )


def _page(repository: Repository, url: Url, subject: str) -> tuple[list[Descriptor] | None, Url | None]:
    session, named = repository.session, repository.session.subject(subject)
    request = Request("GET", url, {"Accept": OCI_INDEX})
    scopes = merge_scopes([pull_scope(repository.image.path)])
    with session.send(request, scopes, named) as response:
        if response.status != 200:
            error = session.error(response, named, RegistryCall.LIST_REFERRERS)
            if error.verdict is not Verdict.OTHER_WAY and isinstance(error, Unavailable):
                raise error
            return None, None  # whatever the reason, the fallback tag may exist
        if media_type_of(response.headers.get("Content-Type")) != OCI_INDEX:
            response.drain()
            return None, None
        raw = response.read(MAX_MANIFEST + 1)
        document = parse_document(raw, OCI_INDEX, named)
        following = next_page(url, response.headers.get_all("Link") or ())
    return list(document.entries) if isinstance(document, Index) else [], following


def artifact_type_of(document: Document) -> str:
    """Read what kind of artifact a document is; empty when it does not say so."""
    content = json.loads(document.raw)
    config = content.get("config")
    kind = content.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    return kind if isinstance(kind, str) else ""


def add_referrers(repository: Repository, subject: Digest, referrers: list[Document]) -> None:
    """Add documents to the list under the fallback tag, for a registry without the referrers API.

    Others may write the same list, so it is read again afterwards, and written again if ours are lost.

    Raises:
        Unavailable: `not-verified` when others keep overwriting it.
    """
    tag = fallback_tag(subject)
    wanted = {str(each.digest): _descriptor(each) for each in referrers}
    for _ in range(_MOST_ROUNDS):
        entries = _entries(repository, tag)
        present = {str(entry.get("digest")) for entry in entries}
        missing = [entry for digest, entry in wanted.items() if digest not in present]
        if not missing:
            return
        content = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*entries, *missing]}
        raw = json.dumps(content, separators=(",", ":")).encode()
        repository.push_manifest(parse_document(raw, OCI_INDEX, tag), tag)
    raise Unavailable(
        "registry", ErrorCode.NOT_VERIFIED, f"{repository.image.repository}:{tag}: others keep overwriting it"
    )


def _entries(repository: Repository, tag: str) -> list[dict[str, object]]:
    try:
        document = repository.fetch_manifest(tag)
    except NotFound:
        return []
    if not isinstance(document, Index):
        raise Invalid("registry", "manifest-ambiguous", f"{repository.image.repository}:{tag} is no index")
    entries: list[dict[str, object]] = json.loads(document.raw).get("manifests") or []
    return entries


def _descriptor(document: Document) -> dict[str, object]:
    """Return the list entry of a document, with the fields that clients filter by."""
    content = json.loads(document.raw)
    kind = artifact_type_of(document)
    entry: dict[str, object] = {
        "mediaType": document.media_type,
        "digest": str(document.digest),
        "size": len(document.raw),
    }
    if kind:
        entry["artifactType"] = kind
    if isinstance(content.get("annotations"), dict):
        entry["annotations"] = content["annotations"]
    return entry
