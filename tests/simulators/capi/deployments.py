"""Rolling deployments: a second web process that takes over from the first, instance by instance.

Source: cloud_controller_ng app/actions/deployment_create.rb, lib/cloud_controller/deployment_updater/.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING

import httpx

from tests.simulators.bbs_calls import BbsRefused
from tests.simulators.capi.app import App
from tests.simulators.capi.records import Deployment, DeploymentState, Droplet, Revision
from tests.simulators.recipes import InvalidDockerUri

if TYPE_CHECKING:
    from tests.simulators.cloud_controller import CloudController

INTERVAL = 0.02  # seconds; 5 where it is real


def create(app: App, droplet: Droplet | None, revision: Revision | None) -> Deployment:
    """Make a deployment with its process; another one that is under way is superseded."""
    if revision is not None:
        app.current = app.droplets[revision.droplet_guid]
        app.add_revision(revision.droplet_guid, f"Rolled back to revision {revision.version}.")
    elif droplet is not None:
        app.current = droplet
    if app.current is None:
        raise ValueError("an app without a droplet cannot be deployed")
    for earlier in app.deployments:
        if earlier.state is DeploymentState.DEPLOYING:
            earlier.state = DeploymentState.CANCELED
    former = app.web
    process = app.add_process(instances=1)
    process.is_started = True
    app.revise(process)
    row = app.database.new(app.guid)
    deployment = Deployment(*row, former, process, app.current.guid, former.instances)
    app.deployments.append(deployment)
    return deployment


async def run(cloud: "CloudController", app: App, deployment: Deployment) -> None:
    """Start one instance after another of the new process, and stop as many of the former."""
    while deployment.state is DeploymentState.DEPLOYING:
        with contextlib.suppress(httpx.HTTPError, BbsRefused, InvalidDockerUri):
            await _run_some(cloud, app, deployment)
        await asyncio.sleep(INTERVAL)


async def _run_some(cloud: "CloudController", app: App, deployment: Deployment) -> None:
    former, process = deployment.former, deployment.process
    if not process.is_started or app.guid not in cloud.apps:
        await cloud.end_deployment(deployment, DeploymentState.CANCELED)
        return
    rows = await cloud.diego.instances(process.process_guid)
    running = {row.actual_lrp_key.index for row in rows if row.state == "RUNNING"}
    if len(running) < process.instances:
        return
    if process.instances < deployment.instances:
        process.instances += 1
        app.touch(process)
        await cloud.create_or_update(app, process)
        former.instances -= 1
        app.touch(former)
        await cloud.create_or_update(app, former)
        return
    for each in [each for each in app.processes if each.kind == "web" and each is not process]:
        app.processes.remove(each)
        await cloud.remove(each.process_guid)
    await cloud.end_deployment(deployment, DeploymentState.DEPLOYED)
