"""Reads and writes GUID reservations, cached images and their blobs within a transaction."""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Connection, RowMapping, bindparam, case, delete, func, insert, or_, select, update

from controller.store import proofs
from controller.store.tables import (
    blob_sizes,
    blobs,
    copy_checks,
    images,
    pending_verifications,
    reservations,
)
from controller.store.upsert import insert_missing, insert_or_update
from reconcile.errors import Conflict, NotFound
from reconcile.foreign_text import reason_text
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, Digest, ImageReference, parse_digest
from reconcile.trust import BlobHolder, ContentProof, ContentStanding, Reader, standing_of

MOST_HOLDERS = 1000
"""Images with a blob of which one of a trust domain is looked for: those that were verified last."""

ImageKey = tuple[float, CacheGuid]
"""Place of a copy in the list of all: when it was made, and its GUID."""

HOLDERS_AT_A_TIME = 200
"""Images whose proofs are read with one query."""

_IMAGES = (
    select(
        images,
        reservations.c.platform_digest,
        pending_verifications.c.since,
        copy_checks.c.missing_since,
        copy_checks.c.missing,
        copy_checks.c.lost_since,
    )
    .join_from(images, reservations)
    .outerjoin(pending_verifications, pending_verifications.c.cache_guid == images.c.cache_guid)
    .outerjoin(copy_checks, copy_checks.c.cache_guid == images.c.cache_guid)
)


def reference_from_text(text: str) -> ImageReference:
    """Parse what `str` of a reference wrote, without the defaults that user input gets."""
    domain, _, rest = text.partition("/")
    name, _, digest = rest.partition("@")
    path, _, tag = name.partition(":")
    return ImageReference(domain, path, tag or None, parse_digest(digest) if digest else None)


def reserve(connection: Connection, platform_digest: Digest) -> CacheGuid:
    """Return the GUID that is reserved for some content, and reserve one if there is none."""
    return _reserve(connection, platform_digest, CacheGuid(str(uuid.uuid4())))


def reserve_for(connection: Connection, cache_guid: CacheGuid, platform_digest: Digest) -> CacheGuid:
    """Reserve a GUID that is in use already for some content; return the one that is reserved for it.

    Raises:
        Conflict: `guid-of-other-content`: the GUID is reserved for something else.
    """
    return _reserve(connection, platform_digest, cache_guid)


def find_guid(connection: Connection, platform_digest: Digest) -> CacheGuid | None:
    """Find the GUID that is reserved for some content."""
    guid: str | None = connection.scalar(
        select(reservations.c.cache_guid).where(reservations.c.platform_digest == str(platform_digest))
    )
    return None if guid is None else CacheGuid(guid)


def find(connection: Connection, cache_guid: CacheGuid) -> CachedImage | None:
    """Find a finished copy."""
    row = connection.execute(_IMAGES.where(images.c.cache_guid == cache_guid)).mappings().one_or_none()
    return None if row is None else _image(row)


def find_many(connection: Connection, cache_guids: Collection[CacheGuid]) -> dict[CacheGuid, CachedImage]:
    """Find finished copies; one query takes some hundred GUIDs."""
    rows = connection.execute(_IMAGES.where(images.c.cache_guid.in_(cache_guids))).mappings()
    return {image.cache_guid: image for image in map(_image, rows)}


def list_all(connection: Connection) -> tuple[CachedImage, ...]:
    """List the finished copies, oldest first."""
    rows = connection.execute(_IMAGES.order_by(images.c.created_at, images.c.cache_guid)).mappings()
    return tuple(_image(row) for row in rows)


def list_page(connection: Connection, after: ImageKey | None, *, most: int) -> tuple[CachedImage, ...]:
    """List the finished copies after a key, oldest first."""
    wanted = select(images.c.cache_guid).order_by(images.c.created_at, images.c.cache_guid).limit(most)
    if after is not None:
        created_at, cache_guid = after
        is_later = or_(images.c.created_at > created_at, images.c.cache_guid > cache_guid)
        wanted = wanted.where(images.c.created_at >= created_at, is_later)
    # The page is found in the index by itself, before anything is joined to it.
    chosen = wanted.subquery()
    rows = connection.execute(
        _IMAGES.join(chosen, chosen.c.cache_guid == images.c.cache_guid).order_by(
            images.c.created_at, images.c.cache_guid
        )
    ).mappings()
    return tuple(_image(row) for row in rows)


def claim(connection: Connection, registry: str) -> None:
    """Write the address of the present registry into records of older versions, which have none."""
    connection.execute(update(images).where(images.c.registry == "").values(registry=registry))


def measure(connection: Connection) -> dict[str, tuple[int, int]]:
    """Count the finished copies and their bytes, by registry."""
    rows = connection.execute(
        select(images.c.registry, func.count(), func.sum(images.c.size)).group_by(images.c.registry)
    )
    return {str(registry): (int(count), int(size or 0)) for registry, count, size in rows}


def count_shared_bytes(connection: Connection, registries: Collection[str]) -> int:
    """Count what copies in some registries share: the bytes of each blob, once less than copies have it."""
    held = (
        select(blobs.c.digest, (func.count() - 1).label("more"))
        .join_from(blobs, images, images.c.cache_guid == blobs.c.cache_guid)
        .where(images.c.registry.in_(registries))
        .group_by(blobs.c.digest)
        .having(func.count() > 1)
        .subquery()
    )
    chosen = select(func.sum(held.c.more * blob_sizes.c.size)).join_from(
        held, blob_sizes, blob_sizes.c.digest == held.c.digest
    )
    return int(connection.scalar(chosen) or 0)


def count_incomplete(connection: Connection) -> tuple[int, int]:
    """Count the copies of which something is missing, and those of them that are lost."""
    is_missing, is_lost = copy_checks.c.missing_since > 0, copy_checks.c.lost_since > 0
    lost_ones = func.count(case((is_lost, 1)))  # MySQL has no FILTER
    chosen = select(func.count(), lost_ones).select_from(copy_checks).where(is_missing)
    incomplete, lost = connection.execute(chosen).one()
    return int(incomplete), int(lost)


def mark_for_verification(connection: Connection, cache_guid: CacheGuid, at: float) -> None:
    """Save since when a copy needs verification; 0 deletes the mark."""
    connection.execute(delete(pending_verifications).where(pending_verifications.c.cache_guid == cache_guid))
    if at and find(connection, cache_guid) is not None:
        connection.execute(insert(pending_verifications).values(cache_guid=cache_guid, since=at))


def drop(connection: Connection, cache_guid: CacheGuid) -> tuple[Digest, ...]:
    """Delete a finished copy and return the digests of its blobs; the reservation stays.

    Raises:
        NotFound: `no-such-image`.
    """
    image = find(connection, cache_guid)
    if image is None:
        raise NotFound("store", "no-such-image", f"there is no cached image {cache_guid}")
    held = tuple(
        parse_digest(text)
        for text in connection.scalars(select(blobs.c.digest).where(blobs.c.cache_guid == cache_guid))
    )
    for table in (pending_verifications, copy_checks, blobs, images):
        connection.execute(delete(table).where(table.c.cache_guid == cache_guid))
    proofs.drop(connection, image.platform_digest)
    is_held = select(blobs.c.digest).where(blobs.c.digest == blob_sizes.c.digest).exists()
    for start in range(0, len(held), HOLDERS_AT_A_TIME):
        some = [str(blob) for blob in held[start : start + HOLDERS_AT_A_TIME]]
        connection.execute(delete(blob_sizes).where(blob_sizes.c.digest.in_(some), ~is_held))
    return held


def find_holders(
    connection: Connection, wanted: Iterable[Digest], registry: str, reader: Reader | None
) -> dict[Digest, BlobHolder]:
    """Find, for each blob that an image of a registry contains, the most recently verified of these images.

    Without the address of a registry all images count. For a reader only those of its trust domain count,
    and of these the ones that it need not show come first.
    """
    holders = (
        select(images.c.cache_guid, reservations.c.platform_digest, images.c.source)
        .join_from(images, reservations)
        .join(blobs, blobs.c.cache_guid == images.c.cache_guid)
        .where(blobs.c.digest == bindparam("blob"))
        .order_by(images.c.verified_at.desc(), images.c.cache_guid)
        .limit(MOST_HOLDERS if reader is not None else 1)
    )
    if registry:
        holders = holders.where(images.c.registry.in_(["", registry]))
    found = dict[Digest, BlobHolder]()
    for blob in wanted:
        held = connection.execute(holders, {"blob": str(blob)}).all()
        chosen = _choose_holder(connection, [tuple(each) for each in held], reader)
        if chosen is not None:
            found[blob] = chosen
    return found


def _choose_holder(
    connection: Connection, held: Sequence[tuple[str, str, str]], reader: Reader | None
) -> BlobHolder | None:
    """Choose the first image that a reader need not show, or else one of its trust domain.

    Each image is given with its content and its source.
    """
    if reader is None or reader.trusts_everybody:
        return BlobHolder(CacheGuid(held[0][0])) if held else None
    shared: str | None = None
    for start in range(0, len(held), HOLDERS_AT_A_TIME):
        some = held[start : start + HOLDERS_AT_A_TIME]
        logins = proofs.find_logins(connection, [content for _, content, _ in some], reader.domain)
        for guid, content, source in some:
            is_of_host = bool(reader.host) and source.startswith(f"{reader.host}/")
            match standing_of(reader, logins.get(content, ()), is_of_host=is_of_host):
                case ContentStanding.PROVEN:
                    return BlobHolder(CacheGuid(guid))
                case ContentStanding.SHARED:
                    shared = shared or guid
                case ContentStanding.FOREIGN:
                    pass
    return None if shared is None else BlobHolder(CacheGuid(shared), is_proven=False)


def keep(
    connection: Connection, image: CachedImage, held: Iterable[Digest], proof: ContentProof | None = None
) -> None:
    """Save a finished copy; an existing one keeps its source and creation time, and gets further blobs.

    Where the blobs are a mapping, it has their sizes in bytes.

    What was last seen of it, its note included, is forgotten when it is in another registry now. Where a new
    one comes without a proof, such as a rebuilt one, anybody may have brought its blobs.

    Raises:
        Conflict: `guid-of-other-content`: the GUID is not reserved for the content.
    """
    if _reserve(connection, image.platform_digest, image.cache_guid) != image.cache_guid:
        raise _other_content(image.cache_guid, image.platform_digest)
    known_again = {
        "digest": str(image.digest),
        "size": image.size,
        "verified_at": image.verified_at,
        "registry": image.registry,
    }
    first = {
        "cache_guid": image.cache_guid,
        "source": str(image.source),
        "root_digest": str(image.root_digest),
        "created_at": image.created_at,
    }
    chosen = select(images.c.registry).where(images.c.cache_guid == image.cache_guid)
    before = connection.execute(chosen).scalar_one_or_none()
    if before not in {None, image.registry}:
        connection.execute(delete(copy_checks).where(copy_checks.c.cache_guid == image.cache_guid))
    if before is None and proof is None:
        proofs.add_unknown_attempt(connection, image.platform_digest)
    insert_or_update(connection, images, [first | known_again], changed=known_again)
    mark_for_verification(connection, image.cache_guid, image.needs_verification_since)
    rows = [{"digest": str(blob), "cache_guid": image.cache_guid} for blob in held]
    insert_missing(connection, blobs, rows)
    if isinstance(held, Mapping):
        sizes = [{"digest": str(blob), "size": size} for blob, size in held.items()]
        insert_missing(connection, blob_sizes, sizes)
    if proof is not None:
        proofs.save(connection, proof)


def _reserve(connection: Connection, platform_digest: Digest, proposal: CacheGuid) -> CacheGuid:
    row = {"cache_guid": proposal, "platform_digest": str(platform_digest)}
    insert_missing(connection, reservations, [row])
    guid = find_guid(connection, platform_digest)
    if guid is None:  # the proposal belongs to something else
        raise _other_content(proposal, platform_digest)
    return guid


def _other_content(guid: CacheGuid, platform_digest: Digest) -> Conflict:
    return Conflict(
        "store", "guid-of-other-content", f"{guid} is not the GUID reserved for {platform_digest}"
    )


def _image(row: RowMapping) -> CachedImage:
    return CachedImage(
        cache_guid=CacheGuid(row["cache_guid"]),
        source=reference_from_text(row["source"]),
        root_digest=parse_digest(row["root_digest"]),
        platform_digest=parse_digest(row["platform_digest"]),
        digest=parse_digest(row["digest"]),
        size=row["size"],
        created_at=row["created_at"],
        verified_at=row["verified_at"],
        needs_verification_since=row["since"] or 0.0,
        registry=row["registry"],
        missing_since=row["missing_since"] or 0.0,
        missing=reason_text(row["missing"] or ""),
        lost_since=row["lost_since"] or 0.0,
    )
