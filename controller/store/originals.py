"""Converts a desired LRP to bytes and back without loss, for the journal to encrypt.

All fields are written beside the received definition: only the BBS adapter could derive them from it, and
the journal must be readable without that adapter.
"""

import base64
import json
from collections.abc import Mapping

from reconcile.lrps import (
    Action,
    AppGuid,
    Credentials,
    DesiredLrp,
    ModificationTag,
    OtherAction,
    ProcessGuid,
    Pull,
    RunAction,
    Secret,
    WrapperAction,
)
from reconcile.references import Rootfs

_FORMAT = 1

# What JSON returns. Its shape is known, since only this program holds the key that encrypted it.
Json = Mapping[str, "Json"] | list["Json"] | str | int | None


def bytes_from_lrp(lrp: DesiredLrp) -> bytes:
    """Write a desired LRP, secrets included."""
    credentials = lrp.credentials
    return json.dumps(
        {
            "format": _FORMAT,
            "process_guid": lrp.process_guid,
            "domain": lrp.domain,
            "app_guid": lrp.app_guid,
            "rootfs": lrp.rootfs.uri,
            "instances": lrp.instances,
            "tag": [lrp.tag.epoch, lrp.tag.index],
            "definition": base64.b64encode(lrp.definition).decode("ascii"),
            "action": _json_from_action(lrp.action),
            "metric_tags": dict(lrp.metric_tags),
            "credentials": credentials and [credentials.username, credentials.password.value],
            "placement_tags": sorted(lrp.placement_tags),
            "annotation": lrp.annotation,
            "routes": {name: base64.b64encode(text).decode("ascii") for name, text in lrp.routes.items()},
        }
    ).encode("ascii")


def lrp_from_bytes(content: bytes) -> DesiredLrp:
    """Read back what `bytes_from_lrp` wrote.

    Raises:
        ValueError: It is something else, or of another version.
    """
    read = json.loads(content)
    if not isinstance(read, dict) or read.get("format") != _FORMAT:
        raise ValueError("an original definition in an unknown format")
    epoch, index = read["tag"]
    credentials = read["credentials"]
    return DesiredLrp(
        process_guid=ProcessGuid(read["process_guid"]),
        domain=read["domain"],
        app_guid=AppGuid(read["app_guid"]),
        rootfs=Rootfs(read["rootfs"]),
        instances=read["instances"],
        tag=ModificationTag(epoch, index),
        definition=base64.b64decode(read["definition"], validate=True),
        action=_action_from_json(read["action"]),
        metric_tags=read["metric_tags"],
        credentials=None if credentials is None else Credentials(credentials[0], Secret(credentials[1])),
        placement_tags=frozenset(read.get("placement_tags", ())),  # not written before there were canaries
        annotation=read.get("annotation", ""),  # not written before it was compared
        routes={
            name: base64.b64decode(text, validate=True)
            for name, text in read.get("routes", {}).items()  # not written before there were bridges
        },
    )


def bytes_from_pull(pull: Pull) -> bytes:
    """Write what cells pull, with its login."""
    login = pull.credentials
    credentials = login and [login.username, login.password.value]
    return json.dumps([pull.rootfs.uri, credentials]).encode("ascii")


def pull_from_bytes(content: bytes) -> Pull:
    """Read back what `bytes_from_pull` wrote."""
    rootfs, credentials = json.loads(content)
    login = None if credentials is None else Credentials(credentials[0], Secret(credentials[1]))
    return Pull(Rootfs(rootfs), login)


def _json_from_action(action: Action | None) -> Json:
    match action:
        case RunAction(path, args, env):
            return {"run": path, "args": list(args), "env": dict(env)}
        case WrapperAction(actions):
            return {"around": [_json_from_action(inner) for inner in actions]}
        case OtherAction():
            return {}
        case None:
            return None


def _action_from_json(read: object) -> Action | None:
    match read:
        case {"run": str(path), "args": list(args), "env": dict(env)}:
            return RunAction(path, tuple(args), env)
        case {"around": list(actions)}:
            inner = (_action_from_json(action) for action in actions)
            return WrapperAction(tuple(action for action in inner if action is not None))
        case None:
            return None
        case _:
            return OtherAction()
