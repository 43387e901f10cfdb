"""Checks the store without locking it: access, holder, schema, free space and the journal key."""

import asyncio
import os
import shutil
from pathlib import Path

from controller.config import Config, read_secret
from controller.database_location import location_of
from controller.doctor.database_server import DATABASE, check_server, judge_key_uses, judge_registries
from controller.doctor.findings import Finding, Findings, ok, problem, warning
from controller.store.cipher import cipher_from_key
from controller.store.inspection import check_schema, recorded_registries
from controller.store.key_uses import count_key_uses
from controller.store.location import Location, is_there
from controller.store.lock import find_holder
from reconcile.errors import DockerCacheError, ErrorCode

MAKE_KEY = "make a key with `openssl rand -base64 32 | tr '+/' '-_'`"

LEAST_FREE = 100 << 20
"""Bytes that should be free on the disk."""

_FIRST_START = frozenset({ErrorCode.DATABASE_MISSING, ErrorCode.SCHEMA_MISSING})


async def check_database(config: Config) -> Findings:
    """Check directory, holder, schema and free space of the database, and the journal key."""
    location = await asyncio.to_thread(location_of, config)
    if location.server is not None:
        yield await asyncio.to_thread(_judge_key, config.journal_key_file)
        for finding in await asyncio.to_thread(check_server, config, location.server):
            yield finding
        return
    path = location.path
    if path is not None:
        directory = await asyncio.to_thread(_nearest, path)
        if await asyncio.to_thread(directory.is_dir):
            yield await asyncio.to_thread(_judge_access, path, directory)
            yield await asyncio.to_thread(_judge_holder, path)
            yield await asyncio.to_thread(_judge_schema, location, path)
            for finding in judge_registries(config, await asyncio.to_thread(recorded_registries, location)):
                yield finding
            yield judge_space(directory, (await asyncio.to_thread(shutil.disk_usage, directory)).free)
        else:
            yield problem(DATABASE, f"{directory} is no directory", "name another file in database_url")
    yield await asyncio.to_thread(_judge_key, config.journal_key_file)
    if path is not None and config.journal_key_file is not None:
        for finding in await asyncio.to_thread(_judge_sealed, path, config.journal_key_file):
            yield finding


def _nearest(path: Path) -> Path:
    """Find the directory of a file, or the nearest one above it that exists."""
    return next(each for each in path.parents if each.exists())


def _judge_access(path: Path, directory: Path) -> Finding:
    user = f"user {os.geteuid()}"
    for each, rights in ((directory, os.W_OK | os.X_OK), (path, os.R_OK | os.W_OK)):
        if each.exists() and not os.access(each, rights):
            advice = f"give the daemon's user write access to {each}, and run doctor as that user"
            return problem(DATABASE, f"{each} cannot be written to by {user}", advice)
    if directory != path.parent:
        return ok(DATABASE, f"{path.parent} can be created by {user}: the daemon does so at its first start")
    return ok(DATABASE, f"{directory} can be written to by {user}")


def _judge_holder(path: Path) -> Finding:
    try:
        holder = find_holder(path)
    except DockerCacheError as error:
        return problem(DATABASE, str(error), "run doctor as the daemon's user")
    return ok(DATABASE, f"no daemon holds {path}" if holder is None else f"{path} is held by {holder}")


def _judge_schema(location: Location, path: Path) -> Finding:
    try:
        check_schema(location)
    except DockerCacheError as error:
        if error.code in _FIRST_START:
            return ok(DATABASE, f"{path} is created at the daemon's first start")
        if error.code == ErrorCode.SCHEMA_OLDER:
            advice = "start this version's daemon: it brings the schema up to date"
            return warning(DATABASE, str(error), advice)
        return problem(DATABASE, str(error), "follow this message, or name another file in database_url")
    return ok(DATABASE, f"{path} has the schema of this version")


def judge_space(directory: Path, free: int) -> Finding:
    """Report whether the free bytes are enough."""
    text = f"{free >> 20} MiB are free on the disk of {directory}"
    if free < LEAST_FREE:
        advice = f"free at least {LEAST_FREE >> 20} MiB: on a full disk nothing can be recorded"
        return warning(DATABASE, text, advice)
    return ok(DATABASE, text)


def _judge_key(path: Path | None) -> Finding:
    if path is None:
        advice = f"{MAKE_KEY}, and name its file in journal_key_file"
        return warning(DATABASE, "there is no journal key: apps are not migrated while they run", advice)
    try:
        cipher_from_key(read_secret(path).encode())
    except (DockerCacheError, UnicodeError):
        advice = f"{MAKE_KEY}; keep the old one beside it while it is needed"
        return problem(DATABASE, f"journal_key_file {path} holds no Fernet key", advice)
    return ok(DATABASE, f"journal_key_file {path} holds a key")


def _judge_sealed(path: Path, key_file: Path) -> list[Finding]:
    """Say which journal keys are still needed; nothing where another check says what is wrong."""
    if not is_there(path):
        return []
    try:
        uses = count_key_uses(path, read_secret(key_file).encode())
    except (DockerCacheError, UnicodeError, ValueError):
        return []
    return list(judge_key_uses(uses, str(path), key_file))
