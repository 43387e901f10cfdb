"""The JSON of what the API shows.

Source: cloud_controller_ng app/presenters/v3/, docs/v3/source/includes/resources/.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from tests.simulators.capi.app import App
from tests.simulators.capi.records import (
    DOCKER,
    AppTask,
    Build,
    BuildState,
    Deployment,
    DeploymentState,
    Droplet,
    Package,
    Process,
    Revision,
    Row,
)
from tests.simulators.recipes import Owner

Body = dict[str, object]

REDACTED = "***"
NO_METADATA: Mapping[str, object] = {"labels": {}, "annotations": {}}


class Bodies:
    """Writes JSON whose links are those of one API.

    Args:
        url: Of the API, without a slash at its end.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def root(self, uaa_url: str) -> Body:
        """Write what the root says to everybody."""
        links: Body = {
            "self": {"href": self._url},
            "cloud_controller_v2": None,
            "cloud_controller_v3": {"href": f"{self._url}/v3", "meta": {"version": "3.180.0"}},
            "network_policy_v0": {"href": f"{self._url}/networking/v0/external"},
            "network_policy_v1": {"href": f"{self._url}/networking/v1/external"},
            "login": {"href": uaa_url},
            "uaa": {"href": uaa_url},
            "credhub": None,
            "routing": None,
            "logging": None,
            "log_cache": {"href": self._url.replace("://", "://log-cache.", 1)},
            "log_stream": None,
            "app_ssh": None,
        }
        return {"links": links}

    def v3(self) -> Body:
        """Write which resources there are."""
        names = (
            *("apps", "builds", "deployments", "droplets", "organizations", "packages", "processes"),
            *("spaces", "tasks"),
        )
        return {"links": {"self": self._link("")} | {name: self._link(f"/{name}") for name in names}}

    def app(self, app: App) -> Body:
        """Write an app."""
        path = f"/apps/{app.guid}"
        return {
            **_row(app.guid, app.created_at, app.changed_at),
            "name": app.owner.app_name,
            "state": "STARTED" if app.is_started else "STOPPED",
            "lifecycle": _lifecycle(DOCKER),
            "relationships": {
                "space": {"data": {"guid": app.owner.space_guid}},
                "current_droplet": {"data": None if app.current is None else {"guid": app.current.guid}},
            },
            "metadata": NO_METADATA,
            "links": {
                "self": self._link(path),
                "space": self._link(f"/spaces/{app.owner.space_guid}"),
                "processes": self._link(f"{path}/processes"),
                "packages": self._link(f"{path}/packages"),
                "current_droplet": self._link(f"{path}/droplets/current"),
                "droplets": self._link(f"{path}/droplets"),
                "tasks": self._link(f"{path}/tasks"),
                "revisions": self._link(f"{path}/revisions"),
                "deployed_revisions": self._link(f"{path}/revisions/deployed"),
            },
        }

    def space(self, owner: Owner) -> Body:
        """Write the space of an app."""
        path = f"/spaces/{owner.space_guid}"
        return {
            **_row(owner.space_guid, 0.0, 0.0),
            "name": owner.space_name,
            "relationships": {"organization": {"data": {"guid": owner.org_guid}}, "quota": {"data": None}},
            "metadata": NO_METADATA,
            "links": {
                "self": self._link(path),
                "organization": self._link(f"/organizations/{owner.org_guid}"),
            },
        }

    def organization(self, owner: Owner) -> Body:
        """Write the organization of an app."""
        path = f"/organizations/{owner.org_guid}"
        return {
            **_row(owner.org_guid, 0.0, 0.0),
            "name": owner.org_name,
            "suspended": False,
            "relationships": {"quota": {"data": {"guid": "default"}}},
            "metadata": NO_METADATA,
            "links": {"self": self._link(path)},
        }

    def package(self, package: Package) -> Body:
        """Write a package; a password is never shown."""
        image = package.image
        data: Body = {"error": None, "checksum": {"type": "sha256", "value": None}}
        if package.kind == DOCKER:
            password = REDACTED if image.username else None
            data = {"image": image.text, "username": image.username or None, "password": password}
        return {
            **_times(package),
            "type": package.kind,
            "data": data,
            "state": "READY",
            "relationships": _of_app(package),
            "metadata": NO_METADATA,
            "links": {
                "self": self._link(f"/packages/{package.guid}"),
                "app": self._link(f"/apps/{package.app_guid}"),
            },
        }

    def build(self, build: Build) -> Body:
        """Write a build, whose droplet is null until that is in a final state."""
        droplet = build.droplet if build.droplet is not None and build.droplet.state.is_final else None
        error = f"StagingError - Staging error: {build.error}" if build.error else None
        links = {"self": self._link(f"/builds/{build.guid}"), "app": self._link(f"/apps/{build.app_guid}")}
        if droplet is not None:
            links["droplet"] = self._link(f"/droplets/{droplet.guid}")
        return {
            **_times(build),
            "state": build.state,
            "staging_memory_in_mb": 1024,
            "staging_disk_in_mb": 4096,
            "staging_log_rate_limit_bytes_per_second": -1,
            "error": error if build.state is BuildState.FAILED else None,
            "lifecycle": _lifecycle(build.package.kind),
            "package": {"guid": build.package.guid},
            "droplet": None if droplet is None else {"guid": droplet.guid},
            "created_by": {"guid": "8f5f9f5e-0000-4000-8000-5c1d5a4e3b21", "name": "dev", "email": "dev"},
            "relationships": _of_app(build),
            "metadata": NO_METADATA,
            "links": links,
        }

    def droplet(self, droplet: Droplet) -> Body:
        """Write a droplet."""
        path = f"/droplets/{droplet.guid}"
        links = {"self": self._link(path), "app": self._link(f"/apps/{droplet.app_guid}")}
        if droplet.package_guid is not None:
            links["package"] = self._link(f"/packages/{droplet.package_guid}")
        links["assign_current_droplet"] = {
            **self._link(f"/apps/{droplet.app_guid}/relationships/current_droplet"),
            "method": "PATCH",
        }
        return {
            **_times(droplet),
            "state": droplet.state,
            "error": droplet.error or None,
            "lifecycle": _lifecycle(droplet.lifecycle),
            "checksum": None,
            "buildpacks": [],
            "stack": None,
            "image": droplet.image,
            "execution_metadata": '{"cmd":["/srv/app"]}',
            "process_types": {"web": droplet.command},
            "relationships": _of_app(droplet),
            "metadata": NO_METADATA,
            "links": links,
        }

    def process(self, process: Process) -> Body:
        """Write a process."""
        path, revision = f"/processes/{process.guid}", process.revision
        return {
            **_times(process),
            "version": process.version,
            "type": process.kind,
            "command": None,
            "instances": process.instances,
            "memory_in_mb": 256,
            "disk_in_mb": 1024,
            "log_rate_limit_in_bytes_per_second": -1,
            "health_check": {"type": "port", "data": {"timeout": None, "invocation_timeout": None}},
            "relationships": {
                **_of_app(process),
                "revision": None if revision is None else {"data": {"guid": revision.guid}},
            },
            "metadata": NO_METADATA,
            "links": {
                "self": self._link(path),
                "scale": {**self._link(f"{path}/actions/scale"), "method": "POST"},
                "app": self._link(f"/apps/{process.app_guid}"),
                "stats": self._link(f"{path}/stats"),
            },
        }

    def revision(self, revision: Revision, *, is_deployable: bool) -> Body:
        """Write a revision."""
        return {
            **_times(revision),
            "version": revision.version,
            "droplet": {"guid": revision.droplet_guid},
            "processes": {"web": {"command": None}},
            "sidecars": [],
            "description": revision.description,
            "deployable": is_deployable,
            "relationships": _of_app(revision),
            "metadata": NO_METADATA,
            "links": {
                "self": self._link(f"/revisions/{revision.guid}"),
                "app": self._link(f"/apps/{revision.app_guid}"),
            },
        }

    def deployment(self, deployment: Deployment) -> Body:
        """Write a deployment."""
        is_active = deployment.state is DeploymentState.DEPLOYING
        reason = "DEPLOYING" if is_active else deployment.state.value
        revision = deployment.process.revision
        version = None if revision is None else {"guid": revision.guid, "version": revision.version}
        return {
            **_times(deployment),
            "status": {"value": "ACTIVE" if is_active else "FINALIZED", "reason": reason},
            "strategy": deployment.strategy,
            "droplet": {"guid": deployment.droplet_guid},
            "previous_droplet": None,
            "new_processes": [{"guid": deployment.process.guid, "type": deployment.process.kind}],
            "revision": version,
            "relationships": _of_app(deployment),
            "metadata": NO_METADATA,
            "links": {
                "self": self._link(f"/deployments/{deployment.guid}"),
                "app": self._link(f"/apps/{deployment.app_guid}"),
            },
        }

    def task(self, task: AppTask) -> Body:
        """Write a one-off task."""
        return {
            **_times(task),
            "sequence_id": task.sequence,
            "name": task.name,
            "command": task.command,
            "state": task.state,
            "memory_in_mb": 256,
            "disk_in_mb": 1024,
            "result": {"failure_reason": task.error or None},
            "droplet_guid": task.droplet_guid,
            "relationships": _of_app(task),
            "metadata": NO_METADATA,
            "links": {
                "self": self._link(f"/tasks/{task.guid}"),
                "app": self._link(f"/apps/{task.app_guid}"),
                "droplet": self._link(f"/droplets/{task.droplet_guid}"),
            },
        }

    def _link(self, path: str) -> dict[str, str]:
        return {"href": f"{self._url}/v3{path}"}


def _row(guid: str, created_at: float, updated_at: float) -> Body:
    return {"guid": guid, "created_at": _time(created_at), "updated_at": _time(updated_at)}


def _times(row: Row) -> Body:
    return _row(row.guid, row.created_at, row.updated_at)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lifecycle(kind: str) -> Body:
    return {"type": kind if kind != "bits" else "buildpack", "data": {}}


def _of_app(row: Row) -> Body:
    return {"app": {"data": {"guid": row.app_guid}}}
