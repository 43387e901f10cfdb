"""Which files with secrets any user of the machine may read or change."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.config import Config
from controller.doctor.files import check_files
from controller.doctor.findings import Level
from controller.exposed_files import exposed_files
from tests.controller.doctor.conftest import Settings, all_of, config_of
from tests.stores import open_store


@pytest.fixture
async def config(settings: Settings, tmp_path: Path) -> AsyncIterator[Config]:
    """A config whose files are all closed to others, and a store that is open."""
    await asyncio.to_thread(write_secrets, settings, tmp_path)
    async with open_store(settings["database_url"], journal_key=None, run_id="r"):
        yield await config_of(settings)


def write_secrets(settings: Settings, directory: Path) -> None:
    for name in ("password", "pull-password", "auth.json", "former-password", "uaa"):
        (directory / name).write_text("{}")
        (directory / name).chmod(0o640)  # a group may be meant to read it
    settings["cache_registry"] |= {"username": "u", "password_file": str(directory / "password")}
    settings["cache_pull_username"] = "cells"
    settings["cache_pull_password_file"] = str(directory / "pull-password")
    settings["cloud_controller_api_url"] = "https://api.sys.example.com"
    settings["uaa_client_id"] = "docker-cache"
    settings["uaa_client_secret_file"] = str(directory / "uaa")
    settings["registry_auth_file"] = str(directory / "auth.json")
    former = {"address": "old.example", "username": "u", "password_file": str(directory / "former-password")}
    settings["former_cache_registries"] = [former]


async def found(config: Config) -> list[str]:
    return [str(each) for each in await asyncio.to_thread(exposed_files, config)]


async def test_a_store_and_secrets_that_are_closed_are_well(config: Config, tmp_path: Path) -> None:
    assert await found(config) == []
    (finding,) = await all_of(check_files(config))
    assert (finding.check, finding.level) == ("files", Level.OK)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("journal.key", "journal_key_file"),
        ("password", "cache_registry.password_file"),
        ("pull-password", "cache_pull_password_file"),
        ("auth.json", "registry_auth_file"),
        ("uaa", "uaa_client_secret_file"),
        ("former-password", "former_cache_registries.password_file"),
        ("store/cache.db", "database_url"),
        ("store/cache.db-wal", "database_url"),
        ("store/cache.db.lock", "database_url"),
    ],
)
@pytest.mark.parametrize(("mode", "can"), [(0o604, "read"), (0o602, "changed"), (0o606, "changed")])
async def test_each_file_that_others_may_read_or_change_is_named_with_its_key(
    config: Config, tmp_path: Path, name: str, key: str, mode: int, can: str
) -> None:
    path = tmp_path / name
    await asyncio.to_thread(path.chmod, mode)

    assert await found(config) == [
        f"{key}: {path} can be {can} by any user of this machine (mode {mode:04o})"
    ]
    (finding,) = await all_of(check_files(config))
    assert (finding.level, f"chmod o-rwx {path}" in finding.advice) == (Level.WARNING, True)


async def test_the_key_of_a_certificate_counts_and_its_certificate_does_not(config: Config) -> None:
    key, certificate = config.bbs_client_key_file, config.bbs_client_cert_file
    before = (await asyncio.to_thread(key.stat)).st_mode, (await asyncio.to_thread(certificate.stat)).st_mode
    try:
        await asyncio.to_thread(certificate.chmod, 0o644)
        assert await found(config) == []
        await asyncio.to_thread(key.chmod, 0o644)
        (told,) = await found(config)
        assert told.startswith(f"bbs_client_key_file: {key} can be read")
    finally:  # they are those of all tests
        await asyncio.to_thread(key.chmod, before[0] & 0o777)
        await asyncio.to_thread(certificate.chmod, before[1] & 0o777)


@pytest.mark.parametrize("mode", [0o777, 0o1777])
async def test_a_directory_that_others_may_write_into_is_named_once(
    config: Config, tmp_path: Path, mode: int
) -> None:
    await asyncio.to_thread((tmp_path / "store").chmod, mode)
    (told,) = await found(config)
    assert told.startswith(f"database_url: {tmp_path}/store is a directory that any user may change")


async def test_a_directory_above_counts_where_others_may_rename_what_is_in_it(
    config: Config, tmp_path: Path
) -> None:
    await asyncio.to_thread(tmp_path.chmod, 0o1777)
    assert all("store is" not in each for each in await found(config)), "they may not rename the store"
    await asyncio.to_thread(tmp_path.chmod, 0o777)
    assert len([each for each in await found(config) if each.startswith("database_url")]) == 1


async def test_the_directory_of_a_link_counts_as_that_of_what_it_leads_to(
    config: Config, tmp_path: Path
) -> None:
    def link() -> None:
        (tmp_path / "links").mkdir()
        (tmp_path / "links" / "key").symlink_to(tmp_path / "journal.key")
        (tmp_path / "links").chmod(0o777)

    await asyncio.to_thread(link)
    linked = config.model_copy(update={"journal_key_file": tmp_path / "links" / "key"})

    (told,) = await found(linked)
    assert told.startswith(f"journal_key_file: {tmp_path}/links is a directory that any user may change")


async def test_a_loop_of_links_is_left_out(config: Config, tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    await asyncio.to_thread(loop.symlink_to, loop)

    assert await found(config.model_copy(update={"journal_key_file": loop})) == []


async def test_what_is_not_there_is_left_out(settings: Settings) -> None:
    assert await found(await config_of(settings)) == []
