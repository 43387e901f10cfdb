"""The calls of the API that change something.

Source: cloud_controller_ng app/controllers/v3/droplets_controller.rb (the order of the checks of a PATCH),
app/actions/droplet_update.rb (what nobody catches), app/actions/{droplet_copy,deployment_create,task_create}.rb.
"""

from tests.simulators.bbs.connections import Answer
from tests.simulators.capi.app import App
from tests.simulators.capi.errors import not_authorized, not_found, unknown_error, unprocessable
from tests.simulators.capi.reads import app_of
from tests.simulators.capi.records import DOCKER, Droplet, DropletState
from tests.simulators.capi.requests import ApiRequest, ok

DROPLET_FIELDS = frozenset({"image", "metadata"})
LONGEST_IMAGE = 255


async def update_droplet(request: ApiRequest) -> Answer:
    """Answer PATCH /v3/droplets/:guid."""
    body = request.body()
    droplet = request.cloud.find_droplet(request.parts["guid"])
    access = request.access
    if droplet is None or not (access.updates_build_state or access.reads_everything):
        raise not_found("Droplet")
    if not (access.updates_build_state if "image" in body else access.manages):
        raise not_authorized()
    unknown = sorted(body.keys() - DROPLET_FIELDS)
    if unknown:
        names = ", ".join(f"'{name}'" for name in unknown)
        raise unprocessable(f"Unknown field(s): {names}")
    image = body.get("image")
    if image is not None and not isinstance(image, str):
        raise unprocessable("Image must be a string")
    if "image" in body:
        # The action's own errors are caught by nobody, and so are a column's that is too short.
        if droplet.state is not DropletState.STAGED or droplet.lifecycle != DOCKER:
            raise unknown_error()
        if isinstance(image, str) and len(image) > LONGEST_IMAGE:
            raise unknown_error()
        for listener in request.cloud.changing:
            listener(droplet, image)
        request.cloud.patch(droplet, image)
    return ok(request.bodies.droplet(droplet))


async def delete_droplet(request: ApiRequest) -> Answer:
    """Answer DELETE /v3/droplets/:guid."""
    droplet = _droplet(request, request.parts["guid"])
    _manage(request)
    request.cloud.delete_droplet(droplet)
    return _accepted(request)


async def copy_droplet(request: ApiRequest) -> Answer:
    """Answer POST /v3/droplets?source_guid=."""
    source_guid = request.call.query.removeprefix("source_guid=")
    droplet = _droplet(request, source_guid)
    app = _related_app(request)
    _manage(request)
    return ok(request.bodies.droplet(app.copy_droplet(droplet)), 201)


async def assign_droplet(request: ApiRequest) -> Answer:
    """Answer PATCH /v3/apps/:guid/relationships/current_droplet."""
    app = app_of(request)
    _manage(request)
    droplet = app.droplets.get(_guid_at(request.body(), "data"))
    if droplet is None or droplet.state is not DropletState.STAGED:
        text = "Unable to assign current droplet. Ensure the droplet exists and belongs to this app."
        raise unprocessable(text)
    request.cloud.assign(app, droplet)
    links = {"self": {"href": f"{request.url}{request.call.path}"}}
    return ok({"data": {"guid": droplet.guid}, "links": links})


async def start_app(request: ApiRequest) -> Answer:
    """Answer POST /v3/apps/:guid/actions/start."""
    app = _startable(request)
    if not app.is_started:
        await request.cloud.start_app(app)
    return ok(request.bodies.app(app))


async def stop_app(request: ApiRequest) -> Answer:
    """Answer POST /v3/apps/:guid/actions/stop."""
    app = app_of(request)
    _manage(request)
    await request.cloud.stop(app)
    return ok(request.bodies.app(app))


async def restart_app(request: ApiRequest) -> Answer:
    """Answer POST /v3/apps/:guid/actions/restart."""
    app = _startable(request)
    await request.cloud.restart(app)
    return ok(request.bodies.app(app))


async def create_deployment(request: ApiRequest) -> Answer:
    """Answer POST /v3/deployments."""
    app = _related_app(request)
    _manage(request)
    body = request.body()
    revisions = [each for each in app.revisions if each.guid == _guid_at(body, "revision")]
    if "revision" in body and not revisions:
        raise unprocessable("The revision does not exist")
    droplet = app.droplets.get(_guid_at(body, "droplet"))
    if app.current is None and droplet is None:
        raise unprocessable(
            "Invalid droplet. Please specify a droplet in the request or set a current droplet."
        )
    revision = revisions[0] if revisions else None
    deployment = await request.cloud.deploy(app, droplet=droplet, revision=revision)
    return ok(request.bodies.deployment(deployment), 201)


async def create_task(request: ApiRequest) -> Answer:
    """Answer POST /v3/apps/:guid/tasks."""
    app = app_of(request)
    _manage(request)
    body = request.body()
    if app.current is None:
        raise unprocessable("Task must have a droplet. Assign current droplet to app.")
    task = await request.cloud.run_task(app, str(body.get("command", "")), name=str(body.get("name", "")))
    return ok(request.bodies.task(task), 202)


def _droplet(request: ApiRequest, guid: str) -> Droplet:
    droplet = request.cloud.find_droplet(guid)
    if droplet is None or not request.access.reads_everything:
        raise not_found("Droplet")
    return droplet


def _related_app(request: ApiRequest) -> App:
    relationships = request.body().get("relationships")
    related = relationships.get("app") if isinstance(relationships, dict) else None
    app = request.cloud.find_app(_guid_at(related, "data"))
    if app is None or not request.access.reads_everything:
        raise unprocessable("Unable to use app. Ensure that the app exists and you have access to it.")
    return app


def _startable(request: ApiRequest) -> App:
    app = app_of(request)
    _manage(request)
    if app.current is None:
        raise unprocessable("Assign a droplet before starting this app.")
    return app


def _manage(request: ApiRequest) -> None:
    if not request.access.manages:
        raise not_authorized()


def _guid_at(body: object, name: str) -> str:
    inner = body.get(name) if isinstance(body, dict) else None
    guid = inner.get("guid") if isinstance(inner, dict) else None
    return guid if isinstance(guid, str) else ""


def _accepted(request: ApiRequest) -> Answer:
    return Answer(202, b"", (("Location", f"{request.url}/v3/jobs/{request.parts['guid']}"),))
