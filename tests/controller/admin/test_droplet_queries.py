"""Which droplets a list has, page by page, and what the status says of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.admin import droplet_queries
from controller.admin.dependencies import AdminDependencies
from controller.admin.grpc_status import BadRequest
from controller.admin.pages import token_from_key
from controller.admin.survey import LrpListing
from protos.admin import admin_pb2 as pb
from reconcile.cloud_controller_status import CloudControllerStatus
from reconcile.droplets import DropletGuid, DropletPhase, DropletRecord
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.reasons import Reason
from reconcile.selection import AppNames, Owner
from tests.reconcile.test_droplet_plan import APP, RECORD

OTHER = AppGuid("app-2")
PATCHED = replace(RECORD, phase=DropletPhase.PATCHED, reason=Reason.DROPLET_PATCHED)
PAGE = 4


def record(number: int, app: AppGuid = APP, phase: DropletPhase = DropletPhase.PATCHED) -> DropletRecord:
    return replace(PATCHED, droplet_guid=DropletGuid(f"d-{number:02}"), app_guid=app, phase=phase)


@dataclass
class Droplets:
    """Records, of which the store gives four at a time."""

    records: Sequence[DropletRecord] = ()
    status: CloudControllerStatus | None = None
    updates: bool = True
    listed_at: float = 7.0
    counts: Mapping[tuple[DropletPhase, Reason], int] = field(default_factory=dict)

    async def page_records(self, after: DropletGuid | None) -> tuple[DropletRecord, ...]:
        return tuple(each for each in self.records if after is None or each.droplet_guid > after)[:PAGE]

    async def list_records_of(self, app_guids: Collection[AppGuid]) -> tuple[DropletRecord, ...]:
        return tuple(each for each in self.records if each.app_guid in app_guids)

    async def count_records(self) -> Mapping[tuple[DropletPhase, Reason], int]:
        return self.counts


class Directory:
    async def names_of(self, apps: Collection[AppGuid]) -> Mapping[AppGuid, AppNames]:
        names = {APP: AppNames((APP,), Owner("acme", "prod", "web"), "org-1", "space-1")}
        return {app: each for app, each in names.items() if app in apps}


class Survey:
    async def list_for_page(self, _after: str) -> LrpListing:
        return LrpListing((ProcessGuid("process-1"),), {})

    async def apps_of(self, guids: Sequence[ProcessGuid]) -> frozenset[AppGuid]:
        return frozenset({APP} if "process-1" in guids else ())


def dependencies(droplets: Droplets) -> AdminDependencies:
    made = SimpleNamespace(
        droplets=droplets, directory=Directory(), planning=SimpleNamespace(survey=Survey())
    )
    return cast(AdminDependencies, made)


async def listed(droplets: Droplets, **request: Any) -> list[str]:
    """List all pages."""
    found, token = list[str](), ""
    while True:
        answer = await droplet_queries.droplets(
            dependencies(droplets), pb.ListDropletsRequest(page_token=token, **request)
        )
        found += [each.droplet_guid for each in answer.droplets]
        token = answer.next_page_token
        if not token:
            return found


@pytest.mark.parametrize("size", [1, 3, 4, 5, 100])
async def test_each_droplet_is_listed_once_whatever_the_pages_are(size: int) -> None:
    droplets = Droplets([record(number) for number in range(11)])

    assert await listed(droplets, page_size=size) == [f"d-{number:02}" for number in range(11)]


@pytest.mark.parametrize(
    ("request_", "guids"),
    [
        ({"filter": pb.Filter(apps=["web"])}, ["d-01", "d-03"]),
        ({"filter": pb.Filter(apps=["app-2"])}, ["d-02"]),
        ({"filter": pb.Filter(orgs=["acme"], spaces=["prod"])}, ["d-01", "d-03"]),
        ({"filter": pb.Filter(orgs=["nope"])}, []),
        ({"filter": pb.Filter(process_guids=["proc"])}, ["d-01", "d-03"]),
        ({"filter": pb.Filter(images=["registry.example/team/*"])}, ["d-01", "d-02", "d-03"]),
        ({"filter": pb.Filter(images=["docker.io/*"])}, []),
        ({"phases": [pb.DROPLET_PHASE_LEFT]}, ["d-03"]),
    ],
    ids=str,
)
async def test_a_filter_is_about_apps_and_original_images(
    request_: Mapping[str, Any], guids: list[str]
) -> None:
    droplets = Droplets([record(1), record(2, OTHER), record(3, phase=DropletPhase.LEFT)])

    assert await listed(droplets, page_size=1, **request_) == guids


async def test_a_page_token_of_another_list_is_refused() -> None:
    token = token_from_key((1.5, "x"))

    with pytest.raises(BadRequest, match="page token"):
        await droplet_queries.droplets(dependencies(Droplets()), pb.ListDropletsRequest(page_token=token))


async def test_of_an_app_the_newest_droplet_counts() -> None:
    droplets = Droplets(
        [record(2), record(1), record(3, OTHER)], CloudControllerStatus("https://api.example")
    )

    newest = await droplet_queries.newest_records(dependencies(droplets), {APP})

    assert {app: each.droplet_guid for app, each in newest.items()} == {APP: "d-02"}


async def test_the_status_counts_what_waits_but_not_what_is_to_stay() -> None:
    droplets = Droplets(
        status=CloudControllerStatus("https://api.example", reachable_since=5.0, requests_left=9),
        counts={
            (DropletPhase.PATCHED, Reason.DROPLET_PATCHED): 40,
            (DropletPhase.LEFT, Reason.WAITING_FOR_COPY): 3,
            (DropletPhase.LEFT, Reason.OPTED_OUT): 2,
        },
    )

    answer = await droplet_queries.cloud_controller(dependencies(droplets))

    assert answer is not None
    assert dict(answer.droplets_by_phase) == {"patched": 40, "left": 5}
    assert dict(answer.waiting_by_reason) == {"waiting-for-copy": 3}
    assert (answer.reachable_since, answer.requests_left, answer.droplets_listed_at) == (5.0, 9, 7.0)


async def test_without_a_cloud_controller_there_is_nothing_to_say() -> None:
    nothing = dependencies(Droplets([record(1)]))

    assert await droplet_queries.cloud_controller(nothing) is None
    assert await droplet_queries.newest_records(nothing, {APP}) == {}
