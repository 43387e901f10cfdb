"""How a Docker staging task ends: with what its builder finds out about an image.

Source: dockerapplifecycle builder/.
"""

import json
from dataclasses import dataclass

from protos.bbs.actions_pb2 import Action, RunAction
from protos.bbs.task_pb2 import Task, TaskDefinition


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task ends."""

    result: str = ""
    failed: bool = False
    failure_reason: str = ""


def staging_result(task: Task) -> TaskResult:
    """End a Docker staging task as its builder would, any other task with an empty result."""
    reference = docker_reference(task.task_definition)
    if not reference or not task.task_definition.result_file:
        return TaskResult()
    metadata = {"cmd": ["/srv/app"], "ports": [{"Port": 8080, "Protocol": "tcp"}], "user": "app"}
    result = {
        "lifecycle_type": "docker",
        "lifecycle_metadata": {"docker_image": _builder_reference(reference)},
        "process_types": {"web": "/srv/app"},
        "execution_metadata": json.dumps(metadata, separators=(",", ":")),
    }
    return TaskResult(json.dumps(result, separators=(",", ":")))


def docker_reference(definition: TaskDefinition) -> str:
    """Find the image that a staging task is about; empty for another kind of task."""
    for run in _runs(definition.action):
        for argument in run.args:
            if argument.startswith("-dockerRef="):
                return argument.partition("=")[2]
    return ""


def _runs(action: Action) -> list[RunAction]:
    if action.HasField("run_action"):
        return [action.run_action]
    inner = [
        *(part.action for part in (action.timeout_action, action.emit_progress_action, action.try_action)),
        *action.serial_action.actions,
        *action.parallel_action.actions,
        *action.codependent_action.actions,
    ]
    return [run for part in inner if part.ByteSize() for run in _runs(part)]


def _builder_reference(text: str) -> str:
    """Write a reference as the builder reports it: with a tag, and without the default registry."""
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        name, tag = text, "latest"
    head, slash, rest = name.partition("/")
    has_host = bool(slash) and ("." in head or ":" in head or head == "localhost")
    if has_host and head == "registry-1.docker.io":
        name, has_host = rest, False
    if not has_host and "/" not in name:
        name = f"library/{name}"
    return f"{name}:{tag or 'latest'}"
