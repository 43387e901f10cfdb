"""Recognises a Docker staging task and reads which image it is about.

Only the task's contents count: its domain, the lifecycle's builder somewhere in its actions, and the
builder's flags, in the forms of 2015 and of today. For hosts of Amazon's ECR the credentials are an AWS key
pair and no login; they are passed on unchanged.

Sources: cloud_controller_ng lib/cloud_controller/diego/task_recipe_builder.rb and
docker/staging_action_builder.rb (today's task); cloudfoundry/stager history up to 2018
(flags as separate items); dockerapplifecycle builder/main.go and helpers/helpers.go (the
builder's flags, and how it reads an image); Go's flag package (how flags are written).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from reconcile.errors import Invalid
from reconcile.hosts import DOCKER_HUB
from reconcile.lrps import Action, AppGuid, Credentials, RunAction, Secret, Task, TaskGuid, run_actions
from reconcile.references import (
    ImageReference,
    Rootfs,
    image_from_rootfs,
    parse_image_reference,
)

STAGING_DOMAIN = "cf-app-staging"
APP_TASK_DOMAIN = "cf-tasks"
OPT_IN_VARIABLE = "DIEGO_DOCKER_CACHE"


class IgnoreReason(StrEnum):
    """Why a task stages no Docker image."""

    OTHER_DOMAIN = "other-domain"
    APP_TASK = "app-task"
    BUILDPACK = "buildpack"
    CNB = "cnb"
    NO_BUILDER = "no-builder"
    NO_IMAGE = "no-image"
    UNPARSABLE_IMAGE = "unparsable-image"
    TAG_AND_DIGEST = "tag-and-digest"
    MALFORMED = "malformed"


_SWITCHES = frozenset({"cacheDockerImage", "dockerRegistryRequireTLS"})
_SETTINGS = frozenset(
    {
        "dockerRef",
        "dockerImageURL",
        "outputMetadataJSONFilename",
        "insecureDockerRegistries",
        "dockerDaemonExecutablePath",
        "dockerDaemonUnixSocket",
        "dockerRegistryAddresses",
        "dockerRegistryHost",
        "dockerRegistryIPs",
        "dockerRegistryPort",
        "dockerLoginServer",
        "dockerUser",
        "dockerPassword",
        "dockerEmail",
    }
)
_OTHER_BUILDERS = {
    **dict.fromkeys(
        (
            "buildArtifactsCacheDir",
            "buildDir",
            "buildpackOrder",
            "buildpacksDir",
            "buildpacksDownloadDir",
            "outputBuildArtifactsCache",
            "outputDroplet",
            "outputMetadata",
            "skipCertVerify",
            "skipDetect",
        ),
        IgnoreReason.BUILDPACK,
    ),
    **dict.fromkeys(("buildpack", "cache-dir", "cache-output", "pass-env-var"), IgnoreReason.CNB),
}
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class OwnerChoice(StrEnum):
    """What an app's owner asks for: caching, no caching, or neither."""

    OPT_IN = "opt-in"
    OPT_OUT = "opt-out"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class StagedImage:
    """The image that a staging task is about.

    Attributes:
        organization_guid: Empty where the task has no such metric tag.
        text: The image exactly as the user gave it, which may hold a login.
        source: The canonical reference of what the builder reads in the text.
        credentials: For the source registry; None for anonymous reading.
        staged_at: Nanoseconds since 1970.
    """

    task_guid: TaskGuid
    app_guid: AppGuid
    organization_guid: str
    text: str = field(repr=False)
    source: ImageReference
    credentials: Credentials | None
    staged_at: int
    owner_choice: OwnerChoice


@dataclass(frozen=True, slots=True)
class IgnoredTask:
    """A task that stages no Docker image.

    Attributes:
        detail: One line for people; may be empty.
    """

    reason: IgnoreReason
    detail: str = ""


def detect(task: Task) -> StagedImage | IgnoredTask:
    """Read which image a task stages; never raises."""
    if task.domain == APP_TASK_DOMAIN:
        return IgnoredTask(IgnoreReason.APP_TASK)
    if task.domain != STAGING_DOMAIN:
        return IgnoredTask(IgnoreReason.OTHER_DOMAIN)
    first: IgnoredTask | None = None
    for run in run_actions(task.action):
        if not _is_builder(run):
            continue
        found = _read_builder(task, run)
        if isinstance(found, StagedImage):
            return found
        first = first or found
    return first or IgnoredTask(IgnoreReason.NO_BUILDER)


def owner_choice_of(action: Action | None) -> OwnerChoice:
    """Read the opt-in variable and flag of an action's programs; one "false" outweighs any "true".

    The action may be that of a staging task or of a desired LRP. Only the exact values "true" and "false"
    count, as they did for the stager.
    """
    owner_choice = OwnerChoice.NONE
    for run in run_actions(action):
        wish = run.env.get(OPT_IN_VARIABLE)
        if wish == "false":
            return OwnerChoice.OPT_OUT
        if wish == "true" or _asks_for_cache(run):
            owner_choice = OwnerChoice.OPT_IN
    return owner_choice


def _is_builder(run: RunAction) -> bool:
    return run.path.rpartition("/")[2] == "builder"


def _asks_for_cache(run: RunAction) -> bool:
    if not _is_builder(run):
        return False
    flags = _parse_flags(run.args)
    return not isinstance(flags, IgnoredTask) and flags.get("cacheDockerImage") in _TRUE


def _read_builder(task: Task, run: RunAction) -> StagedImage | IgnoredTask:
    flags = _parse_flags(run.args)
    if isinstance(flags, IgnoredTask):
        return flags
    text = flags.get("dockerRef") or flags.get("dockerImageURL")
    if not text:
        return IgnoredTask(IgnoreReason.NO_IMAGE)
    try:
        image = _as_the_builder_reads(text) if flags.get("dockerRef") else image_from_rootfs(Rootfs(text))
    except Invalid as error:
        return IgnoredTask(IgnoreReason.UNPARSABLE_IMAGE, error.detail)
    if image.tag is not None and image.digest is not None:
        return IgnoredTask(IgnoreReason.TAG_AND_DIGEST, f"{image}: staging refuses a tag beside a digest")
    app_guid = task.log_guid or task.metric_tags.get("app_id") or task.metric_tags.get("source_id")
    if not task.task_guid or not app_guid:
        return IgnoredTask(
            IgnoreReason.MALFORMED, "the task names no app" if task.task_guid else "the task has no GUID"
        )
    return StagedImage(
        task_guid=task.task_guid,
        app_guid=AppGuid(app_guid),
        organization_guid=task.metric_tags.get("organization_id", ""),
        text=text,
        source=image.canonical(),
        credentials=_credentials(flags) or task.credentials,
        staged_at=task.created_at,
        owner_choice=owner_choice_of(task.action),
    )


def _credentials(flags: Mapping[str, str]) -> Credentials | None:
    """Take a complete login from the flags; half of one, which the builder refuses, counts as none."""
    username, password = flags.get("dockerUser"), flags.get("dockerPassword")
    return Credentials(username, Secret(password)) if username and password is not None else None


def _as_the_builder_reads(text: str) -> ImageReference:
    """Read an image as the builder does, so that what is copied is what the app will run.

    It differs from docker's reading: the tag begins after the last colon and may be empty,
    and a first part in capitals is no host.

    Raises:
        Invalid: as `parse_image_reference`.

    Source: dockerapplifecycle helpers/helpers.go. Its default host is "registry-1.docker.io", which
        has the same images as "docker.io".
    """
    if "://" in text:
        raise Invalid("image", "invalid-format", "the image has a scheme: write it without one")
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:  # that colon belongs to a port
        name, tag = text, ""
    head, slash, _ = name.partition("/")
    if not slash:
        name = f"{DOCKER_HUB}/library/{name}"
    elif "." not in head and ":" not in head and head != "localhost":
        name = f"{DOCKER_HUB}/{name}"
    return parse_image_reference(f"{name}:{tag or 'latest'}")


def _parse_flags(args: Sequence[str]) -> Mapping[str, str] | IgnoredTask:
    """Read the Docker builder's flags as Go does: flag name to value, the last one counting.

    A flag of another builder decides wherever it stands, since the value after it may look like a flag of the
    Docker builder. An unknown flag is ignored only when it contains its value.
    """
    flags: dict[str, str] = {}
    items = iter(args)
    for item in items:
        if len(item) < 2 or not item.startswith("-") or item == "--":
            break
        name, has_value, value = item.removeprefix("-").removeprefix("-").partition("=")
        if not name or name.startswith("-"):
            return IgnoredTask(IgnoreReason.MALFORMED, "an argument of the builder is no flag")
        if name in _OTHER_BUILDERS:
            return IgnoredTask(_OTHER_BUILDERS[name])
        if name in _SWITCHES:
            value = value if has_value else "true"
            if value not in _TRUE | _FALSE:
                return IgnoredTask(IgnoreReason.MALFORMED, f"-{name} is neither true nor false")
        elif not has_value and name in _SETTINGS:
            following = next(items, None)
            if following is None:
                return IgnoredTask(
                    IgnoreReason.NO_IMAGE if name == "dockerRef" else IgnoreReason.MALFORMED,
                    f"-{name} lacks its value",
                )
            value = following
        elif not has_value:
            return IgnoredTask(IgnoreReason.MALFORMED, f"-{name[:64]} is a flag of no builder we know")
        flags[name] = value
    return flags
