"""Checks a database on a server, and judges what any database holds."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from controller.config import Config, read_secret
from controller.doctor.findings import Finding, ok, problem, warning
from controller.leadership.ports import Holder
from controller.recorded_registries import made_in, others
from controller.store.cipher import cipher_from_key
from controller.store.key_uses import KeyUses
from controller.store.location import ServerLocation
from controller.store.schema import SchemaState, refuse_other_schema, refuse_unmigratable
from reconcile.errors import DockerCacheError, ErrorCode

if TYPE_CHECKING:
    from controller.store.server_inspection import InspectedServer

DATABASE = "database"

KEEP_FOR_NOTES = "older keys can go a week after the new one came, when the notes beside copies have it too"

MOST_APART = 30.0
"""Maximum difference of two clocks in seconds."""


def check_server(config: Config, location: ServerLocation) -> list[Finding]:
    """Look at a database on a server, and judge it; blocks."""
    from controller.store.server_inspection import inspect_server  # noqa: PLC0415 - SQLAlchemy takes long

    key_file = config.journal_key_file
    try:
        seen = inspect_server(location, None if key_file is None else _usable_key(key_file))
    except (DockerCacheError, OSError, ValueError) as error:
        advice = "check database_url, its password, and that the server lets this machine and user in"
        return [problem(DATABASE, str(error), advice)]
    found = [*judge_server(config, location, seen), *judge_registries(config, seen.registries)]
    if config.locket_address is None:
        found.append(judge_holder(location.name, seen.holder, config.uuid))
    if key_file is not None:
        found += judge_keys(key_file, used=seen.used_keys, own=seen.own_keys)
    if key_file is not None and seen.key_uses is not None:
        found += judge_key_uses(seen.key_uses, location.name, key_file)
    return found


def _usable_key(file: Path) -> bytes | None:
    """Read the journal key; None where another finding says what is wrong with it."""
    try:
        key = read_secret(file).encode()
        cipher_from_key(key)
    except (DockerCacheError, OSError, UnicodeError):
        return None
    return key


def judge_server(config: Config, location: ServerLocation, seen: "InspectedServer") -> Iterator[Finding]:
    """Judge connection, schema, durability and clock."""
    if not seen.is_encrypted or config.database_ca_cert_file is None:
        how = "is encrypted, and the server is not verified" if seen.is_encrypted else "is not encrypted"
        yield warning(
            DATABASE,
            f"{location.name} is {seen.version}; the connection {how}",
            "name the CA of the server in database_ca_cert_file",
        )
    else:
        yield ok(DATABASE, f"{location.name} is {seen.version}; the connection is encrypted and verified")
    yield _judge_schema(seen.schema, location.name)
    if not seen.is_durable:
        yield warning(
            DATABASE,
            f"{location.name} may lose what it has committed when its power fails",
            "set fsync to on, or innodb_flush_log_at_trx_commit to 1: an app may be restored from these rows",
        )
    if abs(seen.clock_ahead) > MOST_APART:
        side = "ahead of" if seen.clock_ahead > 0 else "behind"
        yield warning(
            DATABASE,
            f"the clock of {location.name} is {abs(seen.clock_ahead):.0f} s {side} this machine's",
            "synchronize all machines by NTP",
        )


def judge_holder(name: str, holder: Holder | None, instance_id: str | None) -> Finding:
    """Report who holds the lock in a database."""
    if holder is None:
        return ok(DATABASE, f"nobody holds the lock in {name}, so no instance is active")
    if holder.note is None:
        advice = "find out which program this is: while it renews the lock, no instance becomes active"
        return warning(DATABASE, f"another program holds the lock in {name}: {holder.owner}", advice)
    whose = " (this one)" if holder.note.instance_id == instance_id else ""
    return ok(DATABASE, f"{holder}{whose} holds the lock in {name}, until lock_ttl after its last renewal")


def judge_keys(key_file: Path, *, used: Sequence[str], own: Sequence[str]) -> Iterator[Finding]:
    """Compare the fingerprints of the journal keys here with those of the instance that was active last."""
    if not used or not own:
        return
    if used[0] not in own:
        yield problem(
            DATABASE,
            f"the instance that was active last seals with the journal key {used[0]}, and {key_file} has "
            f"{', '.join(own)}: this one cannot take over",
            f"write all keys of that instance into {key_file} too",
        )
    elif own[0] not in used:
        yield warning(
            DATABASE,
            f"this instance would seal with the journal key {own[0]}, and the one that was active last has "
            f"{', '.join(used)}: it could not take over again",
            "write the new key below the others on every instance first, and then in front of them",
        )
    else:
        yield ok(
            DATABASE, f"{key_file} has the key {used[0]}, with which the instance that was active last seals"
        )


def judge_registries(config: Config, recorded: Mapping[str, int]) -> list[Finding]:
    """Compare the registries that the records name with those of the config."""
    return [
        problem(
            DATABASE,
            f"{made_in(address, recorded[address])}, which the config does not name",
            f"list {address} in former_cache_registries: until then apps that run from there stay",
        )
        for address in others(recorded, config.cache_repositories)
    ]


def judge_key_uses(uses: KeyUses, name: str, key_file: Path) -> Iterator[Finding]:
    """Say which journal keys are still needed for a database."""
    needed = [
        f"{count:,} by key {place}" for place, count in enumerate(uses.by_place, 1) if count and place > 1
    ]
    if needed:
        text = f"values in {name} are still sealed by older keys of {key_file}: {', '.join(needed)}"
        advice = "keep these keys: the daemon seals such values with key 1 when it starts, or by `seal-anew`"
        yield warning(DATABASE, text, advice)
    elif len(uses.by_place) > 1:
        text = f"all {sum(uses.by_place):,} sealed values are sealed by key 1 of {key_file}: {KEEP_FOR_NOTES}"
        yield ok(DATABASE, text)
    if uses.unreadable:
        text = f"{uses.unreadable:,} values in {name} are sealed by no key of {key_file}"
        advice = (
            "write the key that sealed them below the others again: logins and open migrations are in them"
        )
        yield problem(DATABASE, text, advice)


def _judge_schema(schema: SchemaState, name: str) -> Finding:
    try:
        if schema.revision is None:
            refuse_unmigratable(schema, name)
            return ok(DATABASE, f"{name} is empty: the first instance that becomes active creates the tables")
        refuse_other_schema(schema.revision, name)
    except DockerCacheError as error:
        if error.code == ErrorCode.SCHEMA_OLDER:
            advice = "let an instance of this version become active: it brings the schema up to date"
            return warning(DATABASE, str(error), advice)
        return problem(DATABASE, str(error), "follow this message, or name another database in database_url")
    return ok(DATABASE, f"{name} has the schema of this version")
