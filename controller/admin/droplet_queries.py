"""Answers the calls about droplets that change nothing."""

from collections import Counter
from collections.abc import Collection, Mapping

from controller.admin import droplet_messages, messages
from controller.admin.dependencies import AdminDependencies
from controller.admin.grpc_status import BadRequest
from controller.admin.naming import resolve_guids
from controller.admin.pages import fitting, key_from_token, page_size, token_from_key
from protos.admin import admin_pb2 as pb
from reconcile.droplet_plan import references_of
from reconcile.droplets import DropletGuid, DropletPhase, DropletRecord
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.reasons import AppState, Reason
from reconcile.selection import NOBODY, AppNames, Selection

MOST_RECORDS_READ = 20_000
"""How many records are read at most for one page, even when few of them match the filter."""


async def droplets(
    dependencies: AdminDependencies, request: pb.ListDropletsRequest
) -> pb.ListDropletsResponse:
    """List what is known of droplets, by droplet GUID, with the names of their apps that can be found now."""
    selection = messages.selection_from_message(request.filter)
    phases = frozenset(droplet_messages.phases_from_numbers(request.phases))
    apps = await _apps_of(dependencies, selection) if selection.process_guids else None
    limit, after = page_size(request.page_size), _place_of_token(request.page_token)
    found, names, read = list[DropletRecord](), dict[AppGuid, AppNames](), 0
    token = ""
    while True:
        batch = await dependencies.droplets.page_records(after)
        known = [each for each in batch if not phases or each.phase in phases]
        named = await dependencies.directory.names_of({each.app_guid for each in known}) if known else {}
        names.update((app, each) for app, each in named.items() if app not in names)
        found += [each for each in known if _matches(each, selection, names, apps)]
        read += len(batch)
        if len(found) > limit:
            token = token_from_key((found[limit - 1].droplet_guid,))
            break
        if not batch:
            break
        after = batch[-1].droplet_guid
        if read >= MOST_RECORDS_READ:
            token = token_from_key((after,))
            break
    rows, token = fitting(
        found[:limit],
        token,
        key=lambda record: (record.droplet_guid,),
        write=lambda record: droplet_messages.droplet_message(
            record, names[record.app_guid].owner if record.app_guid in names else NOBODY
        ),
    )
    return pb.ListDropletsResponse(droplets=rows, next_page_token=token)


def _place_of_token(token: str) -> DropletGuid | None:
    key = key_from_token(token)
    if key is None:
        return None
    if len(key) != 1 or not isinstance(key[0], str) or not key[0].isprintable():
        raise BadRequest("bad-page-token", "the page token is not one that this API gave")
    return DropletGuid(key[0])


async def _apps_of(dependencies: AdminDependencies, selection: Selection) -> frozenset[AppGuid]:
    """Find the apps of the LRPs that process GUIDs, or beginnings of them, mean."""
    survey = dependencies.planning.survey
    listed = await survey.list_for_page("")
    wanted = resolve_guids(selection.process_guids, listed.guids)
    return await survey.apps_of(list(map(ProcessGuid, wanted)))


def _matches(
    record: DropletRecord,
    selection: Selection,
    names: Mapping[AppGuid, AppNames],
    apps: frozenset[AppGuid] | None,
) -> bool:
    app = names.get(record.app_guid, AppNames((record.app_guid,)))
    return (
        (apps is None or record.app_guid in apps)
        and selection.matches_app(app)
        and selection.matches_image(references_of(record.original))
    )


async def newest_records(
    dependencies: AdminDependencies, apps: Collection[AppGuid]
) -> Mapping[AppGuid, DropletRecord]:
    """Read of some apps what was done about the newest droplet that was looked at."""
    if dependencies.droplets.status is None:
        return {}
    newest = dict[AppGuid, DropletRecord]()
    for record in await dependencies.droplets.list_records_of(apps):
        newest.setdefault(record.app_guid, record)
    return newest


async def cloud_controller(dependencies: AdminDependencies) -> pb.CloudController | None:
    """Report how Cloud Controller does what it is asked for; None where none is configured."""
    state = dependencies.droplets.status
    if state is None:
        return None
    phases, waiting = Counter[str](), Counter[str]()
    for (phase, reason), count in (await dependencies.droplets.count_records()).items():
        phases[str(phase)] += count
        if _waits(phase, reason):
            waiting[str(reason)] += count
    answer = pb.CloudController(
        url=state.address,
        reachable_since=state.reachable_since or 0.0,
        failing_since=state.failing_since or 0.0,
        last_success=state.last_success or 0.0,
        error=state.error,
        requests_left=state.requests_left,
        requests_renewed_at=state.window_ends_at,
        missing_scopes=state.missing_scopes,
        updates_droplets=dependencies.droplets.updates,
        droplets_listed_at=dependencies.droplets.listed_at,
    )
    answer.droplets_by_phase.update(phases)
    answer.waiting_by_reason.update(waiting)
    return answer


def _waits(phase: DropletPhase, reason: Reason) -> bool:
    """Whether something is to be done about a droplet, or went wrong."""
    if phase is DropletPhase.PATCHED:
        return False
    return reason.state in {AppState.PENDING, AppState.MIGRATING, AppState.WAITING, AppState.FAILED}
