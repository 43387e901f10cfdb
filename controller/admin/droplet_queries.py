"""Answers the calls about droplets that change nothing."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from controller.admin import droplet_messages, messages
from controller.admin.dependencies import AdminDependencies
from controller.admin.naming import resolve_guids
from controller.admin.pages import written_page
from protos.admin import admin_pb2 as pb
from reconcile.droplet_plan import references_of
from reconcile.droplets import DropletPhase, DropletRecord
from reconcile.errors import DockerCacheError
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.reasons import AppState, Reason
from reconcile.selection import NOBODY, AppNames, Selection


async def droplets(
    dependencies: AdminDependencies, request: pb.ListDropletsRequest
) -> pb.ListDropletsResponse:
    """List what is known of droplets, by app; their names are those that can be found out now."""
    selection = messages.selection_from_message(request.filter)
    phases = frozenset(droplet_messages.phases_from_numbers(request.phases))
    records = await dependencies.droplets.list_records()
    names = await _names(dependencies, {record.app_guid for record in records}) if records else {}
    apps = None
    if selection.process_guids:
        apps = await _apps_of(dependencies, selection)
    chosen = [
        record
        for record in records
        if (not phases or record.phase in phases) and _matches(record, selection, names, apps)
    ]
    rows, token = written_page(
        chosen,
        key=lambda record: (record.app_guid, -record.created_at, record.droplet_guid),
        write=lambda record: droplet_messages.droplet_message(
            record, names[record.app_guid].owner if record.app_guid in names else NOBODY
        ),
        size=request.page_size,
        token=request.page_token,
    )
    return pb.ListDropletsResponse(droplets=rows, next_page_token=token)


async def _names(dependencies: AdminDependencies, apps: Iterable[AppGuid]) -> Mapping[AppGuid, AppNames]:
    """Find the names of apps: from their LRPs, and of those that do not run from Cloud Controller."""
    running = await dependencies.planning.survey.name_apps()
    missing = [app for app in apps if app not in running]
    try:
        stopped = await dependencies.droplets.name_apps(missing) if missing else {}
    except DockerCacheError:  # the droplets are listed without these names
        stopped = {}
    return {**stopped, **running}


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
