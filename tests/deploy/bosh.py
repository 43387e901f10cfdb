"""Renders the BOSH job, applies ops files and resolves variables, as the Director and its command line do."""

import grp
import json
import os
import pwd
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
RELEASE = ROOT / "deploy" / "bosh"
JOB = RELEASE / "jobs" / "docker_cache"
_RENDERER = Path(__file__).parent / "render_job.rb"

SPEC: Mapping[str, object] = {
    "id": "3a1f9d2c-7b1e-4c0f-9d55-0f6f3f1c2a7e",
    "name": "scheduler",
    "deployment": "cf",
    "index": 0,
    "address": "q-s0.scheduler.default.cf.bosh",
    "persistent_disk": 0,
}
"""Facts of an instance of cf-deployment, which has no persistent disk."""


class DeploymentFails(Exception):
    """A template refuses the properties."""


def read_yaml(path: Path) -> Any:
    """Read a YAML file, as Ruby does for BOSH."""
    return json.loads(_ruby("yaml", path.read_text()))


def render(
    properties: Mapping[str, object],
    *,
    links: Mapping[str, object] | None = None,
    spec: Mapping[str, object] | None = None,
) -> Mapping[str, str]:
    """Render all templates of the job; give their texts by path.

    Raises:
        DeploymentFails: A template refuses the properties.
    """
    wanted = {
        "job": str(JOB),
        "properties": properties,
        "links": links or {},
        "spec": {**SPEC, **(spec or {})},
    }
    answer = json.loads(_ruby("render", json.dumps(wanted)))
    if "error" in answer:
        raise DeploymentFails(answer["error"])
    files: Mapping[str, str] = answer["files"]
    return files


def _ruby(what: str, text: str) -> str:
    command = ["ruby", "--disable-gems", str(_RENDERER), *(["yaml"] if what == "yaml" else [])]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def put_on_vm(files: Mapping[str, str], directory: Path) -> Path:
    """Write rendered files as a VM has them; give the directory of the job.

    A directory of ours is in place of /var/vcap, and who runs this in place of the user vcap.
    """
    job = directory / "jobs" / "docker_cache"
    for path, text in files.items():
        file = job / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_as_here(text, directory))
        file.chmod(0o750 if path.startswith("bin/") else 0o640)
    return job


def _as_here(text: str, directory: Path) -> str:
    user = pwd.getpwuid(os.getuid())
    group = grp.getgrgid(user.pw_gid).gr_name
    text = text.replace("/var/vcap", str(directory)).replace('"vcap"', f'"{user.pw_name}"')
    text = text.replace("--group=vcap", f"--group={group}").replace("--owner=vcap", f"--owner={user.pw_name}")
    return text.replace("--user vcap", f"--user {user.pw_name}")


# Ops files


@dataclass(frozen=True, slots=True)
class Step:
    """A part of an operation's path: a key, "-", or the item of a list by one of its values.

    Attributes:
        may_be_missing: This part, and those after it, need not be there yet.
    """

    key: str
    value: str | None
    may_be_missing: bool


def apply_ops(manifest: Any, operations: list[dict[str, Any]]) -> Any:
    """Apply an ops file to a manifest, which is changed.

    Raises:
        LookupError: A path leads nowhere.
    """
    for each in operations:
        if each["type"] != "replace":
            raise LookupError(f"no such operation here: {each['type']}")
        *parents, last = _steps(each["path"])
        found = manifest
        for at, step in enumerate(parents):
            after = parents[at + 1] if at + 1 < len(parents) else last
            found = _step_into(found, step, [] if after.key == "-" or after.value else {})
        _replace(found, last, each["value"])
    return manifest


def _steps(path: str) -> list[Step]:
    steps, may_be_missing = list[Step](), False
    for part in path.removeprefix("/").split("/"):
        may_be_missing = may_be_missing or part.endswith("?")
        key, _, value = part.removesuffix("?").partition("=")
        steps.append(Step(key, value or None, may_be_missing))
    return steps


def _step_into(found: Any, step: Step, empty: Any) -> Any:
    if step.value is not None:
        items = [each for each in found if each.get(step.key) == step.value]
        if len(items) == 1:
            return items[0]
    elif step.key in found:
        return found[step.key]
    elif step.may_be_missing:
        found[step.key] = empty
        return empty
    raise LookupError(f"no {step.key}{'=' + step.value if step.value else ''}")


def _replace(found: Any, step: Step, value: object) -> None:
    if step.key == "-":
        found.append(value)
    elif step.value is not None:
        found[found.index(_step_into(found, step, None))] = value
    elif step.key in found or step.may_be_missing:
        found[step.key] = value
    else:
        raise LookupError(f"no {step.key}")


_VARIABLE = re.compile(r"\(\(([^()]+)\)\)")


def variables_in(value: object) -> set[str]:
    """List the variables that a part of a manifest names, without the parts of certificates."""
    return {name.partition(".")[0] for name in _VARIABLE.findall(json.dumps(value))}


def resolved(value: Any, variables: Mapping[str, Any]) -> Any:
    """Put values where a part of a manifest names variables.

    Raises:
        KeyError: A variable has no value.
    """
    if isinstance(value, dict):
        return {key: resolved(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [resolved(each, variables) for each in value]
    if not isinstance(value, str):
        return value
    whole = _VARIABLE.fullmatch(value)
    if whole is not None:
        return _value_of(whole[1], variables)
    return _VARIABLE.sub(lambda each: str(_value_of(each[1], variables)), value)


def _value_of(name: str, variables: Mapping[str, Any]) -> Any:
    first, *rest = name.split(".")
    found = variables[first]
    for part in rest:
        found = found[part]
    return found
