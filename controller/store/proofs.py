"""Reads and writes, within a transaction, who has shown and who has copied which content."""

from collections.abc import Collection

from sqlalchemy import Connection, delete, func, insert, select, update

from controller.store.tables import content_proofs, copy_attempts, images, index_contents, reservations
from controller.store.upsert import insert_missing
from reconcile.references import Digest, parse_digest
from reconcile.trust import (
    NO_LOGIN,
    UNKNOWN_LOGIN,
    ContentProof,
    Reader,
    ShownContent,
    TrustDomain,
    standing_of,
)

MOST_PROOFS = 200
"""Proofs that are kept for one image in one trust domain, and indexes that lead to one image."""

_proofs, _attempts, _indexes = content_proofs, copy_attempts, index_contents


def find_in_index(connection: Connection, root_digest: Digest, platforms: str) -> Digest | None:
    """Find what an index that was read before leads to."""
    found: str | None = connection.scalar(
        select(_indexes.c.platform_digest).where(
            _indexes.c.root_digest == str(root_digest), _indexes.c.platforms == platforms
        )
    )
    return None if found is None else parse_digest(found)


def save_index(connection: Connection, root_digest: Digest, platforms: str, platform_digest: Digest) -> None:
    """Save what an index leads to; it is for ever the same.

    Of the indexes that lead to one image only some are kept: a tenant can make any number of them.
    """
    if find_in_index(connection, root_digest, platforms) is not None:
        return
    same_image = _indexes.c.platform_digest == str(platform_digest)
    if (connection.scalar(select(func.count()).where(same_image)) or 0) >= MOST_PROOFS:
        connection.execute(delete(_indexes).where(same_image))
    row = {
        "root_digest": str(root_digest),
        "platforms": platforms,
        "platform_digest": str(platform_digest),
    }
    connection.execute(insert(_indexes).values(row))


def find(connection: Connection, platform_digest: Digest, reader: Reader) -> ShownContent:
    """Find what was shown of an image in a reader's trust domain."""
    chosen = select(_proofs.c.login, _proofs.c.source).where(
        _proofs.c.platform_digest == str(platform_digest), _proofs.c.domain == reader.domain
    )
    rows = connection.execute(chosen).all()
    logins, sources = {login for login, _ in rows}, frozenset(source for _, source in rows if source)
    standing = standing_of(reader, logins, is_of_host=_is_of_host(connection, platform_digest, reader.host))
    return ShownContent(standing, sources)


def find_logins(
    connection: Connection, platform_digests: Collection[str], domain: TrustDomain
) -> dict[str, set[str]]:
    """Find with which logins images were read in a trust domain; one query takes some hundred."""
    chosen = select(_proofs.c.platform_digest, _proofs.c.login).where(
        _proofs.c.platform_digest.in_(platform_digests), _proofs.c.domain == domain
    )
    found = dict[str, set[str]]()
    for platform_digest, login in connection.execute(chosen):
        found.setdefault(platform_digest, set()).add(login)
    return found


def _is_of_host(connection: Connection, platform_digest: Digest, host: str) -> bool:
    """Whether an image was first copied from a registry."""
    chosen = (
        select(images.c.source)
        .join_from(images, reservations)
        .where(reservations.c.platform_digest == str(platform_digest))
    )
    source: str | None = connection.scalar(chosen) if host else None
    return source is not None and source.startswith(f"{host}/")


def save(connection: Connection, proof: ContentProof) -> None:
    """Save that a source has shown an image; of one that did before the time is saved."""
    reader = proof.reader
    of_domain = (_proofs.c.platform_digest == str(proof.platform_digest)) & (
        _proofs.c.domain == reader.domain
    )
    same = of_domain & (_proofs.c.login == reader.login) & (_proofs.c.source == proof.source)
    if connection.execute(update(_proofs).where(same).values(proven_at=proof.at)).rowcount:
        return
    row = {
        "platform_digest": str(proof.platform_digest),
        "domain": reader.domain,
        "login": reader.login,
        "source": proof.source,
        "proven_at": proof.at,
    }
    connection.execute(insert(_proofs).values(row))
    newest = (
        select(_proofs.c.number)
        .where(of_domain)
        .order_by((_proofs.c.login == NO_LOGIN).desc(), _proofs.c.number.desc())
        .offset(MOST_PROOFS)
    )
    connection.execute(delete(_proofs).where(_proofs.c.number.in_(connection.scalars(newest).all())))


def has_only_own_attempts(connection: Connection, platform_digest: Digest, reader: Reader) -> bool:
    """Whether all that is in the repository of some content was brought there by one reader.

    Where nobody is known to have brought anything, somebody unknown may have, and that is saved.
    """
    rows = connection.execute(
        select(_attempts.c.domain, _attempts.c.login).where(
            _attempts.c.platform_digest == str(platform_digest)
        )
    ).all()
    if not rows:
        add_unknown_attempt(connection, platform_digest)
    return bool(rows) and all(reader.counts_as_own(domain, login) for domain, login in rows)


def add_attempt(connection: Connection, platform_digest: Digest, reader: Reader) -> None:
    """Save that a reader begins to bring some content to the repository of its GUID."""
    _add_attempt(connection, platform_digest, reader.domain, reader.login)


def add_unknown_attempt(connection: Connection, platform_digest: Digest) -> None:
    """Save that nobody knows who brought some content to the repository of its GUID."""
    _add_attempt(connection, platform_digest, UNKNOWN_LOGIN, UNKNOWN_LOGIN)


def _add_attempt(connection: Connection, platform_digest: Digest, domain: str, login: str) -> None:
    row = {"platform_digest": str(platform_digest), "domain": domain, "login": login}
    insert_missing(connection, _attempts, [row])


def list_sources(
    connection: Connection, platform_digests: Collection[Digest]
) -> dict[Digest, tuple[str, ...]]:
    """List the repositories that have shown each image, the first one first; one query takes some hundred."""
    chosen = (
        select(_proofs.c.platform_digest, _proofs.c.source)
        .where(
            _proofs.c.platform_digest.in_([str(each) for each in platform_digests]), _proofs.c.source != ""
        )
        .order_by(_proofs.c.number)
    )
    found = dict[Digest, dict[str, None]]()
    for platform_digest, source in connection.execute(chosen):
        found.setdefault(parse_digest(platform_digest), {})[source] = None
    return {platform_digest: tuple(sources) for platform_digest, sources in found.items()}


def drop(connection: Connection, platform_digest: Digest) -> None:
    """Delete the proofs of an image whose copy is gone; who brought it to the repository stays known."""
    for table in (_proofs, _indexes):
        connection.execute(delete(table).where(table.c.platform_digest == str(platform_digest)))


def forget_logins(connection: Connection) -> None:
    """Forget which logins have read content, since the key of their hashes is lost."""
    known = _proofs.c.login.not_in([NO_LOGIN, UNKNOWN_LOGIN])
    connection.execute(update(_proofs).where(known).values(login=UNKNOWN_LOGIN))
    known = _attempts.c.login.not_in([NO_LOGIN, UNKNOWN_LOGIN])
    attempts = select(_attempts.c.platform_digest, _attempts.c.domain).where(known).distinct()
    rows = [{**row, "login": UNKNOWN_LOGIN} for row in connection.execute(attempts).mappings()]
    insert_missing(connection, _attempts, rows)
    connection.execute(delete(_attempts).where(known))
