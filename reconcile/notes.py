"""The note that lies beside a copy in the private registry: what the store knows of it, without a secret.

A note is written so that a lost store can be rebuilt. It is read back as foreign text, since whoever may
write to the private registry may write notes: where there is a key, only a note that was sealed with it is
believed; and of any note only what fits the copy that it lies beside.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconcile.errors import Invalid
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, Digest, ImageReference, parse_digest, parse_image_reference

ARTIFACT_TYPE = "application/vnd.diego-docker-cache.note.v1"
"""The type by which notes are told from other artifacts that refer to a copy, such as signatures."""

SUFFIX = ".note"

_MAX_TAG = 128
_MAX_TEXT = 1024
_PREFIX = "diego-docker-cache."
_SEAL = f"{_PREFIX}seal"
_PURPOSE = b"diego-docker-cache note v1"
_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SIZE = re.compile(r"[0-9]{1,18}")
_TIME = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class CopyNote:
    """What is written beside a copy.

    Attributes:
        source: See `CachedImage`, as the digests, the size and the time.
        needs_login: Whether no app is known to have pulled the source without a login.
        is_sealed: Whether one of the keys confirms it; False where no key is asked.
    """

    cache_guid: CacheGuid
    source: ImageReference
    root_digest: Digest
    platform_digest: Digest
    digest: Digest
    size: int
    created_at: float
    needs_login: bool
    is_sealed: bool = False


def note_of(image: CachedImage, *, needs_login: bool) -> CopyNote:
    """Write down what the store knows of a copy."""
    return CopyNote(
        cache_guid=image.cache_guid,
        source=image.source.canonical(),
        root_digest=image.root_digest,
        platform_digest=image.platform_digest,
        digest=image.digest,
        size=image.size,
        created_at=image.created_at,
        needs_login=needs_login,
    )


def note_tag(copy: ImageReference) -> str:
    """Name the tag of the note beside a copy.

    No copy has it: the tags of all copies are of one length, and this one has another. Nor have signatures,
    whose tags end differently.
    """
    tag = f"{copy.tag}{SUFFIX}"
    return tag if len(tag) <= _MAX_TAG else f"{hashlib.sha256(tag.encode()).hexdigest()}{SUFFIX}"


def annotations_of(note: CopyNote, keys: Sequence[bytes]) -> dict[str, str]:
    """Write a note as annotations, sealed with the first key where there is one."""
    facts = {
        f"{_PREFIX}guid": str(note.cache_guid),
        f"{_PREFIX}source": str(note.source),
        f"{_PREFIX}root-digest": str(note.root_digest),
        f"{_PREFIX}platform-digest": str(note.platform_digest),
        f"{_PREFIX}digest": str(note.digest),
        f"{_PREFIX}bytes": str(note.size),
        f"{_PREFIX}created-at": f"{note.created_at:.3f}",
        f"{_PREFIX}needs-login": "true" if note.needs_login else "false",
    }
    return facts | ({_SEAL: _seal(facts, keys[0])} if keys else {})


def note_from_annotations(annotations: Mapping[str, object], keys: Sequence[bytes]) -> CopyNote:
    """Read a note; it says what somebody wrote, see `check_note`.

    Raises:
        Invalid: `bad-note`.
    """
    facts = {
        name: _text(annotations, f"{_PREFIX}{name}")
        for name in (
            "guid",
            "source",
            "root-digest",
            "platform-digest",
            "digest",
            "bytes",
            "created-at",
            "needs-login",
        )
    }
    for name, pattern in (("guid", _GUID), ("bytes", _SIZE), ("created-at", _TIME)):
        if not pattern.fullmatch(facts[name]):
            raise _bad(f"its {name} cannot be read")
    try:
        return CopyNote(
            cache_guid=CacheGuid(facts["guid"]),
            source=parse_image_reference(facts["source"]).canonical(),
            root_digest=parse_digest(facts["root-digest"]),
            platform_digest=parse_digest(facts["platform-digest"]),
            digest=parse_digest(facts["digest"]),
            size=int(facts["bytes"]),
            created_at=float(facts["created-at"]),
            needs_login=facts["needs-login"] != "false",
            is_sealed=_is_sealed(facts, annotations.get(_SEAL), keys),
        )
    except Invalid as error:
        raise _bad(error.detail) from error


def check_note(note: CopyNote, *, guid: CacheGuid, digest: Digest) -> None:
    """Refuse a note that is not about the copy that it lies beside.

    Raises:
        Invalid: `bad-note`.
    """
    if note.cache_guid != guid:
        raise _bad(f"it is about the copy {note.cache_guid}")
    if note.digest != digest:
        raise _bad(f"it is about content {note.digest}")


def _text(annotations: Mapping[str, object], name: str) -> str:
    value = annotations.get(name)
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise _bad(f"it has no annotation {name}")
    return value


def _is_sealed(facts: Mapping[str, str], seal: object, keys: Sequence[bytes]) -> bool:
    if not isinstance(seal, str) or not seal.isascii():
        return False
    named = {f"{_PREFIX}{name}": text for name, text in facts.items()}
    return any(hmac.compare_digest(seal, _seal(named, key)) for key in keys)


def _seal(facts: Mapping[str, str], key: bytes) -> str:
    content = "".join(f"{name}={len(text)}:{text}\n" for name, text in sorted(facts.items()))
    own_key = hmac.digest(key, _PURPOSE, "sha256")
    return hmac.new(own_key, content.encode(), "sha256").hexdigest()


def _bad(why: str) -> Invalid:
    return Invalid("registry", "bad-note", why)
