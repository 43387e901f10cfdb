"""Whose names are found, and how often Cloud Controller is asked for them; time is virtual."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from controller.admin.app_directory import RECENT, AppDirectory
from reconcile.errors import Unavailable
from reconcile.lrps import AppGuid
from reconcile.selection import AppNames, Owner

pytestmark = pytest.mark.looptime

WEB, BATCH, GONE = AppGuid("web"), AppGuid("batch"), AppGuid("gone")


def named(app: AppGuid) -> AppNames:
    return AppNames((app,), Owner("acme", "prod", app))


class Running:
    async def name_apps(self) -> Mapping[AppGuid, AppNames]:
        return {WEB: named(WEB)}


class CloudController:
    def __init__(self) -> None:
        self.asked: list[Collection[AppGuid] | None] = []
        self.is_down = False

    async def name_apps(self, app_guids: Collection[AppGuid] | None) -> Mapping[AppGuid, AppNames]:
        self.asked.append(app_guids)
        if self.is_down:
            raise Unavailable("cloud-controller", "timeout", "it is down")
        return {BATCH: named(BATCH)}


async def test_only_apps_that_do_not_run_are_asked_for_and_once_for_many_pages() -> None:
    cloud = CloudController()
    directory = AppDirectory(Running(), cloud)

    pages = [await directory.names_of([WEB, BATCH, GONE]) for _ in range(3)]

    assert pages[-1] == {WEB: named(WEB), BATCH: named(BATCH)}
    assert cloud.asked == [[BATCH, GONE]]


async def test_names_are_asked_for_anew_after_a_while() -> None:
    cloud = CloudController()
    directory = AppDirectory(Running(), cloud)
    await directory.names_of([BATCH])

    await asyncio.sleep(RECENT + 1)
    await directory.names_of([BATCH])

    assert len(cloud.asked) == 2


async def test_a_silent_cloud_controller_leaves_names_out() -> None:
    cloud = CloudController()
    cloud.is_down = True
    directory = AppDirectory(Running(), cloud)

    assert await directory.names_of([WEB, BATCH]) == {WEB: named(WEB)}
    cloud.is_down = False
    assert BATCH in await directory.names_of([BATCH])
