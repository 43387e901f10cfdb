"""The GET calls of the API."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from tests.simulators.bbs.connections import Answer
from tests.simulators.capi.app import App, is_deployable
from tests.simulators.capi.errors import bad_query, not_found
from tests.simulators.capi.lists import ListQuery, page_of, parse_query
from tests.simulators.capi.records import (
    DOCKER,
    AppTask,
    Build,
    Deployment,
    Droplet,
    DropletState,
    Package,
    Process,
    Revision,
    Row,
)
from tests.simulators.capi.requests import ApiRequest, ok

Kind = TypeVar("Kind", bound=Row)


def app_of(request: ApiRequest) -> App:
    """Find the app that the path names.

    Raises:
        ApiError: There is none, or the caller may not see it.
    """
    return _seen(request.cloud.find_app(request.parts["app"]), request, "App")


def show_app(request: ApiRequest) -> Answer:
    """Answer GET /v3/apps/:guid."""
    return ok(request.bodies.app(app_of(request)))


def list_apps(request: ApiRequest) -> Answer:
    """Answer GET /v3/apps."""
    filters = ("guids", "names", "space_guids", "organization_guids", "lifecycle_type")
    query = parse_query(request.call.query, *filters)
    wanted = query.filters
    apps = {
        app.guid: app
        for app in request.apps
        if _fits(wanted, "guids", app.guid)
        and _fits(wanted, "lifecycle_type", DOCKER)
        and _fits(wanted, "names", app.owner.app_name)
        and _fits(wanted, "space_guids", app.owner.space_guid)
        and _fits(wanted, "organization_guids", app.owner.org_guid)
    }
    rows = [Row(app.guid, app.guid, app.created_at, app.changed_at) for app in apps.values()]
    body = page_of(rows, query, request.list_url, lambda row: request.bodies.app(apps[row.guid]))
    return ok(body)


def list_spaces(request: ApiRequest) -> Answer:
    """Answer GET /v3/spaces: those that have apps."""
    query = parse_query(request.call.query, "guids", "names", "organization_guids")
    wanted = query.filters
    spaces = {
        app.owner.space_guid: app.owner
        for app in request.apps
        if _fits(wanted, "guids", app.owner.space_guid)
        and _fits(wanted, "names", app.owner.space_name)
        and _fits(wanted, "organization_guids", app.owner.org_guid)
    }
    rows = [Row(guid, guid, 0.0, 0.0) for guid in spaces]
    body = page_of(rows, query, request.list_url, lambda row: request.bodies.space(spaces[row.guid]))
    return ok(body)


def list_organizations(request: ApiRequest) -> Answer:
    """Answer GET /v3/organizations: those that have apps."""
    query = parse_query(request.call.query, "guids", "names")
    wanted = query.filters
    organizations = {
        app.owner.org_guid: app.owner
        for app in request.apps
        if _fits(wanted, "guids", app.owner.org_guid) and _fits(wanted, "names", app.owner.org_name)
    }
    rows = [Row(guid, guid, 0.0, 0.0) for guid in organizations]
    body = page_of(
        rows, query, request.list_url, lambda row: request.bodies.organization(organizations[row.guid])
    )
    return ok(body)


def show_build(request: ApiRequest) -> Answer:
    """Answer GET /v3/builds/:guid."""
    return ok(request.bodies.build(_seen(request.cloud.find_build(request.parts["guid"]), request, "Build")))


def list_builds(request: ApiRequest) -> Answer:
    """Answer GET /v3/builds and GET /v3/apps/:guid/builds."""
    query = parse_query(request.call.query, "app_guids", "package_guids", "states")
    wanted = query.filters

    def fits(build: Build) -> bool:
        return (
            _fits(wanted, "app_guids", build.app_guid)
            and _fits(wanted, "package_guids", build.package.guid)
            and _fits(wanted, "states", build.state)
        )

    rows = [build for app in _apps(request, wanted) for build in app.builds.values() if fits(build)]
    return _list(request, rows, query, request.bodies.build)


def show_droplet(request: ApiRequest) -> Answer:
    """Answer GET /v3/droplets/:guid."""
    droplet = _seen(request.cloud.find_droplet(request.parts["guid"]), request, "Droplet")
    return ok(request.bodies.droplet(droplet))


def show_current_droplet(request: ApiRequest) -> Answer:
    """Answer GET /v3/apps/:guid/droplets/current."""
    return ok(request.bodies.droplet(_seen(app_of(request).current, request, "Droplet")))


def show_current_droplet_relationship(request: ApiRequest) -> Answer:
    """Answer GET /v3/apps/:guid/relationships/current_droplet."""
    app = app_of(request)
    droplet = _seen(app.current, request, "Droplet")
    path = f"{request.url}/v3/apps/{app.guid}"
    links = {
        "self": {"href": f"{path}/relationships/current_droplet"},
        "related": {"href": f"{path}/droplets/current"},
    }
    return ok({"data": {"guid": droplet.guid}, "links": links})


def list_droplets(request: ApiRequest) -> Answer:
    """Answer GET /v3/droplets, GET /v3/apps/:guid/droplets and GET /v3/packages/:guid/droplets."""
    names = ["states", "guids", "app_guids", "space_guids", "organization_guids"]
    if "app" in request.parts:
        names = ["states", "guids", "current"]
    elif "package" in request.parts:
        names = ["states", "guids"]
        _seen(request.cloud.find_package(request.parts["package"]), request, "Package")
    query = parse_query(request.call.query, *names)
    wanted = query.filters
    if wanted.get("current", {"true"}) != {"true"}:
        raise bad_query("Current only accepts the value 'true'")

    def fits(app: App, droplet: Droplet) -> bool:
        return (
            droplet.state is not DropletState.STAGING
            and _fits(wanted, "states", droplet.state)
            and _fits(wanted, "guids", droplet.guid)
            and ("current" not in wanted or droplet is app.current)
            and request.parts.get("package", droplet.package_guid) == droplet.package_guid
        )

    rows = [each for app in _apps(request, wanted) for each in app.droplets.values() if fits(app, each)]
    return _list(request, rows, query, request.bodies.droplet)


def show_package(request: ApiRequest) -> Answer:
    """Answer GET /v3/packages/:guid."""
    package = _seen(request.cloud.find_package(request.parts["guid"]), request, "Package")
    return ok(request.bodies.package(package))


def list_packages(request: ApiRequest) -> Answer:
    """Answer GET /v3/packages and GET /v3/apps/:guid/packages."""
    query = parse_query(request.call.query, "guids", "states", "types", "app_guids", "space_guids")
    wanted = query.filters

    def fits(package: Package) -> bool:
        return (
            _fits(wanted, "guids", package.guid)
            and _fits(wanted, "types", package.kind)
            and _fits(wanted, "states", "READY")
        )

    rows = [each for app in _apps(request, wanted) for each in app.packages.values() if fits(each)]
    return _list(request, rows, query, request.bodies.package)


def show_process(request: ApiRequest) -> Answer:
    """Answer GET /v3/processes/:guid."""
    found = [each for app in request.apps for each in app.processes if each.guid == request.parts["guid"]]
    return ok(request.bodies.process(_seen(found[0] if found else None, request, "Process")))


def list_processes(request: ApiRequest) -> Answer:
    """Answer GET /v3/processes and GET /v3/apps/:guid/processes."""
    query = parse_query(request.call.query, "guids", "types", "app_guids", "space_guids")
    wanted = query.filters

    def fits(process: Process) -> bool:
        return _fits(wanted, "guids", process.guid) and _fits(wanted, "types", process.kind)

    rows = [each for app in _apps(request, wanted) for each in app.processes if fits(each)]
    return _list(request, rows, query, request.bodies.process)


def show_revision(request: ApiRequest) -> Answer:
    """Answer GET /v3/revisions/:guid."""
    found = [
        (app, each) for app in request.apps for each in app.revisions if each.guid == request.parts["guid"]
    ]
    app, revision = _seen(found[0] if found else None, request, "Revision")
    return ok(request.bodies.revision(revision, is_deployable=is_deployable(app, revision)))


def list_revisions(request: ApiRequest) -> Answer:
    """Answer GET /v3/apps/:guid/revisions."""
    query = parse_query(request.call.query, "versions", "deployable", "label_selector")
    app = app_of(request)

    def fits(revision: Revision) -> bool:
        deployable = str(is_deployable(app, revision)).lower()
        return _fits(query.filters, "versions", str(revision.version)) and _fits(
            query.filters, "deployable", deployable
        )

    return _list_revisions(request, app, [each for each in app.revisions if fits(each)], query)


def list_deployed_revisions(request: ApiRequest) -> Answer:
    """Answer GET /v3/apps/:guid/revisions/deployed."""
    query = parse_query(request.call.query)
    app = app_of(request)
    deployed = {
        each.revision.guid: each.revision
        for each in app.processes
        if each.revision is not None and each.is_started
    }
    return _list_revisions(request, app, deployed.values(), query)


def show_deployment(request: ApiRequest) -> Answer:
    """Answer GET /v3/deployments/:guid."""
    found = [each for app in request.apps for each in app.deployments if each.guid == request.parts["guid"]]
    return ok(request.bodies.deployment(_seen(found[0] if found else None, request, "Deployment")))


def list_deployments(request: ApiRequest) -> Answer:
    """Answer GET /v3/deployments."""
    query = parse_query(request.call.query, "app_guids", "states", "status_values", "status_reasons")
    wanted = query.filters

    def fits(deployment: Deployment) -> bool:
        return _fits(wanted, "states", deployment.state)

    rows = [each for app in _apps(request, wanted) for each in app.deployments if fits(each)]
    return _list(request, rows, query, request.bodies.deployment)


def show_task(request: ApiRequest) -> Answer:
    """Answer GET /v3/tasks/:guid."""
    found = [app.tasks[request.parts["guid"]] for app in request.apps if request.parts["guid"] in app.tasks]
    return ok(request.bodies.task(_seen(found[0] if found else None, request, "Task")))


def list_tasks(request: ApiRequest) -> Answer:
    """Answer GET /v3/tasks and GET /v3/apps/:guid/tasks."""
    query = parse_query(request.call.query, "guids", "names", "states", "app_guids", "space_guids")
    wanted = query.filters

    def fits(task: AppTask) -> bool:
        return (
            _fits(wanted, "guids", task.guid)
            and _fits(wanted, "names", task.name)
            and _fits(wanted, "states", task.state)
        )

    rows = [each for app in _apps(request, wanted) for each in app.tasks.values() if fits(each)]
    return _list(request, rows, query, request.bodies.task)


def _apps(request: ApiRequest, wanted: Mapping[str, frozenset[str]]) -> list[App]:
    """Find the apps whose rows are listed: the one that the path names, or all that fit."""
    if "app" in request.parts:
        return [app_of(request)]
    if "app_guids" in wanted:
        found = [request.cloud.find_app(guid) for guid in wanted["app_guids"]]
        return [app for app in found if app is not None and request.access.reads_everything]
    return [
        app
        for app in request.apps
        if _fits(wanted, "space_guids", app.owner.space_guid)
        and _fits(wanted, "organization_guids", app.owner.org_guid)
    ]


def _list(
    request: ApiRequest,
    rows: Iterable[Kind],
    query: ListQuery,
    present: Callable[[Kind], Mapping[str, object]],
) -> Answer:
    return ok(page_of(rows, query, request.list_url, present))


def _list_revisions(request: ApiRequest, app: App, rows: Iterable[Revision], query: ListQuery) -> Answer:
    return _list(
        request,
        rows,
        query,
        lambda each: request.bodies.revision(each, is_deployable=is_deployable(app, each)),
    )


def _fits(wanted: Mapping[str, frozenset[str]], name: str, value: str) -> bool:
    return name not in wanted or value in wanted[name]


Found = TypeVar("Found")


def _seen(found: Found | None, request: ApiRequest, kind: str) -> Found:
    if found is None or not request.access.reads_everything:
        raise not_found(kind)
    return found
