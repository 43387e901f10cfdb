"""What Cloud Controller sends to Diego for a Docker app: the staging task and the desired LRP.

Source: cloud_controller_ng lib/cloud_controller/diego/task_recipe_builder.rb, app_recipe_builder.rb,
docker/staging_action_builder.rb, docker/docker_uri_converter.rb, lib/utils/uri_utils.rb.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from protos.bbs import actions_pb2 as actions
from protos.bbs.cached_dependency_pb2 import CachedDependency
from protos.bbs.certificate_properties_pb2 import CertificateProperties
from protos.bbs.desired_lrp_pb2 import DesiredLRP, ProtoRoutes
from protos.bbs.environment_variables_pb2 import EnvironmentVariable
from protos.bbs.log_rate_limit_pb2 import LogRateLimit
from protos.bbs.metric_tags_pb2 import MetricTagValue
from protos.bbs.network_pb2 import Network
from protos.bbs.security_group_pb2 import SecurityGroupRule
from protos.bbs.task_pb2 import TaskDefinition

APPS_DOMAIN = "cf-apps"
STAGING_DOMAIN = "cf-app-staging"
TASKS_DOMAIN = "cf-tasks"
STACK = "preloaded:cflinuxfs4"
SYSTEM_CERTIFICATES = "/etc/cf-system-certificates"
LIFECYCLE = (
    "http://file-server.service.cf.internal:8080/v1/static/docker_app_lifecycle/docker_app_lifecycle.tgz"
)

_PATH = re.compile(r"[a-z0-9_\-./]{2,255}")
_TAG = re.compile(r"[a-zA-Z0-9_\-.]{1,128}(@sha256:[a-z0-9]{64})?|sha256:[a-z0-9]{64}")


class InvalidDockerUri(Exception):
    """Cloud Controller cannot make a rootfs of an image; in its sync this stops the domain from being fresh."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image as a package or a droplet names it, with what a registry asks for."""

    text: str
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose app it is."""

    app_guid: str
    app_name: str
    space_guid: str = "5b1c7f5e-2222-4f6b-9d1e-0a0b0c0d0e0f"
    space_name: str = "dev"
    org_guid: str = "9f4b3c2a-1111-4a5b-8c6d-7e8f90a1b2c3"
    org_name: str = "acme"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a desired LRP is built from, besides owner and image."""

    process_guid: str
    instances: int
    annotation: str
    hostnames: tuple[str, ...]
    private_key: str
    env: Mapping[str, str] = field(default_factory=dict)


def rootfs_from_image(text: str) -> str:
    """Write the rootfs URI of an image.

    Raises:
        InvalidDockerUri: The text has a scheme, or a path or tag that Cloud Controller refuses.
    """
    if "://" in text:
        raise InvalidDockerUri(f"Docker URI [{text}] should not contain scheme")
    host, path = _host_and_path(text)
    path, at, digest = path.partition("@")
    path, colon, tag = path.partition(":")
    if at:
        tag = f"{tag}@{digest}" if colon else digest
    elif "/" in tag:
        tag = "latest"
    if not _PATH.fullmatch(path):
        raise InvalidDockerUri(f"Invalid image name [{path}]")
    if (colon or at) and not _TAG.fullmatch(tag):
        raise InvalidDockerUri(f"Invalid image tag [{tag}]")
    if at and not colon:
        path, tag = f"{path}@sha256", tag.removeprefix("sha256:")
    return f"docker://{host}/{path}" + (f"#{tag}" if tag else "")


def _host_and_path(text: str) -> tuple[str, str]:
    head, slash, rest = text.partition("/")
    has_host = bool(slash) and ("." in head or ":" in head or head == "localhost")
    host, path = (head, rest) if has_host else ("", text)
    if host in {"", "docker.io"} and "/" not in path:
        path = f"library/{path}"
    return host, path


def staging_task(
    owner: Owner, image: Image, build_guid: str, env: Mapping[str, str], callback: str
) -> TaskDefinition:
    """Build the definition of a Docker staging task; an empty `callback` means none."""
    run = actions.RunAction(
        path="/tmp/lifecycle/builder",
        user="vcap",
        args=_builder_arguments(image),
        env=_environment({**env, **_platform_env(owner)}),
        resource_limits=actions.ResourceLimits(nofile=16384),
    )
    progress = actions.EmitProgressAction(
        start_message="Staging...",
        success_message="Staging Complete",
        failure_message_prefix="Staging Failed",
        action=actions.Action(run_action=run),
    )
    timeout = actions.TimeoutAction(timeout_ms=900000, action=actions.Action(emit_progress_action=progress))
    path = f"/internal/v3/staging/{build_guid}/build_completed?start=false"
    return TaskDefinition(
        root_fs=STACK,
        action=actions.Action(timeout_action=timeout),
        disk_mb=4096,
        memory_mb=1024,
        cpu_weight=50,
        log_guid=owner.app_guid,
        log_source="STG",
        result_file="/tmp/result.json",
        completion_callback_url=f"{callback}{path}" if callback else "",
        egress_rules=[_egress_rule()],
        cached_dependencies=[_lifecycle()],
        legacy_download_user="vcap",
        trusted_system_certificates_path=SYSTEM_CERTIFICATES,
        network=_network(owner, "staging"),
        max_pids=1024,
        certificate_properties=_units(owner),
        image_username=image.username,
        image_password=image.password,
        log_rate_limit=LogRateLimit(bytes_per_second=-1),
        metric_tags=_tags(owner),
    )


def _builder_arguments(image: Image) -> list[str]:
    arguments = ["-outputMetadataJSONFilename=/tmp/result.json", f"-dockerRef={image.text}"]
    if image.username:
        arguments += [f"-dockerUser={image.username}", f"-dockerPassword={image.password}"]
    return arguments


def app_task(owner: Owner, image: Image, task_guid: str, command: str, callback: str) -> TaskDefinition:
    """Build the definition of a one-off task of a Docker app.

    Raises:
        InvalidDockerUri: There is no rootfs for the image.
    """
    run = actions.RunAction(
        path="/tmp/lifecycle/launcher",
        user="app",
        args=["app", command, "{}"],
        env=_environment(_platform_env(owner)),
        resource_limits=actions.ResourceLimits(nofile=16384),
        log_source="APP/TASK/made-up",
    )
    return TaskDefinition(
        root_fs=rootfs_from_image(image.text),
        image_username=image.username,
        image_password=image.password,
        action=actions.Action(run_action=run),
        disk_mb=1024,
        memory_mb=256,
        cpu_weight=3,
        log_guid=owner.app_guid,
        log_source="CELL",
        completion_callback_url=f"{callback}/internal/v4/tasks/{task_guid}/completed" if callback else "",
        egress_rules=[_egress_rule()],
        cached_dependencies=[_lifecycle()],
        legacy_download_user="app",
        trusted_system_certificates_path=SYSTEM_CERTIFICATES,
        network=_network(owner, "task"),
        max_pids=1024,
        certificate_properties=_units(owner),
        log_rate_limit=LogRateLimit(bytes_per_second=-1),
        metric_tags=_tags(owner),
    )


def desired_lrp(owner: Owner, image: Image, recipe: Recipe) -> DesiredLRP:
    """Build the desired LRP of a Docker app's web process.

    Raises:
        InvalidDockerUri: There is no rootfs for the image.
    """
    env = {"PORT": "8080", **recipe.env, **_platform_env(owner)}
    launcher = actions.RunAction(
        path="/tmp/lifecycle/launcher",
        user="app",
        args=["app", "", '{"cmd":["/srv/app"]}'],
        env=_environment(env),
        resource_limits=actions.ResourceLimits(nofile=16384),
        log_source="APP/PROC/WEB",
    )
    sshd = actions.RunAction(path="/tmp/lifecycle/diego-sshd", user="app", log_source="CELL/SSHD")
    runs = [actions.Action(run_action=launcher), actions.Action(run_action=sshd)]
    health = actions.RunAction(path="/tmp/lifecycle/healthcheck", user="app", args=["-port=8080"])
    checks = actions.ParallelAction(actions=[actions.Action(run_action=health)])
    monitor = actions.TimeoutAction(timeout_ms=600000, action=actions.Action(parallel_action=checks))
    return DesiredLRP(
        process_guid=recipe.process_guid,
        domain=APPS_DOMAIN,
        root_fs=rootfs_from_image(image.text),
        image_username=image.username,
        image_password=image.password,
        instances=recipe.instances,
        annotation=recipe.annotation,
        log_guid=owner.app_guid,
        metrics_guid=owner.app_guid,
        log_source="CELL",
        metric_tags=lrp_tags(owner, recipe.process_guid),
        action=actions.Action(codependent_action=actions.CodependentAction(actions=runs)),
        monitor=actions.Action(timeout_action=monitor),
        ports=[8080, 2222],
        routes=ProtoRoutes(routes=routes(recipe.hostnames) | _ssh_route(recipe.private_key)),
        start_timeout_ms=60000,
        disk_mb=1024,
        memory_mb=256,
        cpu_weight=3,
        log_rate_limit=LogRateLimit(bytes_per_second=-1),
        max_pids=1024,
        egress_rules=[_egress_rule()],
        network=_network(owner, "app"),
        cached_dependencies=[_lifecycle()],
        legacy_download_user="app",
        trusted_system_certificates_path=SYSTEM_CERTIFICATES,
        certificate_properties=_units(owner),
    )


def routes(hostnames: tuple[str, ...]) -> dict[str, bytes]:
    """Write the routes that Cloud Controller rebuilds with each update."""
    router = [{"hostnames": list(hostnames), "port": 8080, "protocol": "http1"}] if hostnames else []
    return {
        "cf-router": json.dumps(router, separators=(",", ":")).encode(),
        "tcp-router": b"[]",
        "internal-router": b"[]",
    }


def _ssh_route(private_key: str) -> dict[str, bytes]:
    route = {"container_port": 2222, "private_key": private_key, "host_fingerprint": "aa:bb"}
    return {"diego-ssh": json.dumps(route, separators=(",", ":")).encode()}


def lrp_tags(owner: Owner, process_guid: str) -> dict[str, MetricTagValue]:
    """Write the metric tags of a desired LRP."""
    return _tags(owner) | {
        "process_id": MetricTagValue(static=process_guid[:36]),
        "process_type": MetricTagValue(static="web"),
        "process_instance_id": MetricTagValue(dynamic=MetricTagValue.INSTANCE_GUID),
        "instance_id": MetricTagValue(dynamic=MetricTagValue.INDEX),
    }


def _tags(owner: Owner) -> dict[str, MetricTagValue]:
    texts = {
        "source_id": owner.app_guid,
        "app_id": owner.app_guid,
        "app_name": owner.app_name,
        "space_id": owner.space_guid,
        "space_name": owner.space_name,
        "organization_id": owner.org_guid,
        "organization_name": owner.org_name,
    }
    return {name: MetricTagValue(static=text) for name, text in texts.items()}


def _platform_env(owner: Owner) -> dict[str, str]:
    application = {
        "application_id": owner.app_guid,
        "application_name": owner.app_name,
        "space_name": owner.space_name,
    }
    return {
        "VCAP_APPLICATION": json.dumps(application, separators=(",", ":")),
        "MEMORY_LIMIT": "1024m",
        "VCAP_SERVICES": "{}",
    }


def _environment(variables: Mapping[str, str]) -> list[EnvironmentVariable]:
    return [EnvironmentVariable(name=name, value=value) for name, value in variables.items()]


def _egress_rule() -> SecurityGroupRule:
    return SecurityGroupRule(
        protocol="tcp",
        destinations=["0.0.0.0-9.255.255.255"],
        ports=[53, 443],
        annotations=["security_group_id:7a1d9f60-1a2b-4c3d-8e4f-5a6b7c8d9e0f"],
    )


def _lifecycle() -> CachedDependency:
    values = {"from": LIFECYCLE, "to": "/tmp/lifecycle", "cache_key": "docker-lifecycle"}
    return CachedDependency(**values)


def _network(owner: Owner, workload: str) -> Network:
    properties = {
        "policy_group_id": owner.app_guid,
        "app_id": owner.app_guid,
        "space_id": owner.space_guid,
        "org_id": owner.org_guid,
        "ports": "8080",
        "container_workload": workload,
    }
    return Network(properties=properties)


def _units(owner: Owner) -> CertificateProperties:
    units = (
        f"organization:{owner.org_guid}",
        f"space:{owner.space_guid}",
        f"app:{owner.app_guid}",
    )
    return CertificateProperties(organizational_unit=units)
