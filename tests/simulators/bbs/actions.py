"""Checks actions and the other parts of which desired LRPs and tasks are made.

Each check yields the messages of what is wrong, in the order in which the BBS joins them.
Source: bbs models/actions.go, security_group.go, cached_dependency.go, image_layer.go, volume_mount.go,
metric_tags.go, sidecar.go, check_definition.go, log_rate_limit.go.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from protos.bbs import actions_pb2 as actions
from protos.bbs.cached_dependency_pb2 import CachedDependency
from protos.bbs.check_definition_pb2 import Check, CheckDefinition
from protos.bbs.image_layer_pb2 import ImageLayer
from protos.bbs.metric_tags_pb2 import MetricTagValue
from protos.bbs.security_group_pb2 import SecurityGroupRule
from protos.bbs.sidecar_pb2 import Sidecar
from protos.bbs.volume_mount_pb2 import VolumeMount
from tests.simulators.bbs.errors import Panic

Problems = Iterator[str]

NO_ACTION = "invalid action type"
CHECKSUMS = ("md5", "sha1", "sha256")
PORTS = range(1, 65536)


class _Checksummed(Protocol):
    @property
    def checksum_algorithm(self) -> str: ...
    @property
    def checksum_value(self) -> str: ...


def field(name: str) -> str:
    """Write the message about one field."""
    return f"Invalid field: {name}"


def blank(**values: str) -> Problems:
    """Yield the names of texts that must not be empty; a trailing underscore of a name is dropped."""
    for name, value in values.items():
        if not value:
            yield field(name.rstrip("_"))


def within(name: str, problems: Iterable[str]) -> Problems:
    """Yield the name of a part and what is wrong in it, if anything is."""
    found = list(problems)
    if found:
        yield field(name)
        yield from found


def action_problems(action: actions.Action) -> Problems:
    """Check an action; of several set ones the first in declared order counts."""
    for name, check in _ACTIONS.items():
        if action.HasField(name):
            yield from check(action)
            return
    yield field("inner-action")


def _nested(action: actions.Action) -> Problems:
    if not any(action.HasField(name) for name in _ACTIONS):
        raise Panic("an action inside an action has nothing set")
    return action_problems(action)


def _download(action: actions.Action) -> Problems:
    download = action.download_action
    yield from blank(from_=getattr(download, "from"), to=download.to, user=download.user)
    yield from _checksum(download)


def _upload(action: actions.Action) -> Problems:
    upload = action.upload_action
    yield from blank(to=upload.to, from_=getattr(upload, "from"), user=upload.user)


def _run(action: actions.Action) -> Problems:
    yield from blank(path=action.run_action.path, user=action.run_action.user)


def _timeout(action: actions.Action) -> Problems:
    timeout = action.timeout_action
    if not timeout.HasField("action"):
        yield field("action")
    else:
        yield from within("action", _nested(timeout.action))
    if timeout.timeout_ms <= 0:
        yield field("timeout_ms")


def _emit_progress(action: actions.Action) -> Problems:
    return _wrapped(action.emit_progress_action)


def _try(action: actions.Action) -> Problems:
    return _wrapped(action.try_action)


def _wrapped(wrapper: actions.EmitProgressAction | actions.TryAction) -> Problems:
    if not wrapper.HasField("action"):
        yield field("action")
    else:
        yield from within("action", _nested(wrapper.action))


def _several(inner: Iterable[actions.Action]) -> Problems:
    found = list(inner)
    if not found:
        yield field("actions")
    for index, action in enumerate(found):
        yield from within(f"action at index {index}", _nested(action))


_ACTIONS: dict[str, Callable[[actions.Action], Problems]] = {
    "download_action": _download,
    "upload_action": _upload,
    "run_action": _run,
    "timeout_action": _timeout,
    "emit_progress_action": _emit_progress,
    "try_action": _try,
    "parallel_action": lambda action: _several(action.parallel_action.actions),
    "serial_action": lambda action: _several(action.serial_action.actions),
    "codependent_action": lambda action: _several(action.codependent_action.actions),
}


def _checksum(thing: _Checksummed) -> Problems:
    algorithm, value = thing.checksum_algorithm, thing.checksum_value
    if value and not algorithm:
        yield field("checksum algorithm")
    if algorithm and not value:
        yield field("checksum value")
    if algorithm and value and algorithm.lower() not in CHECKSUMS:
        yield field("invalid algorithm")


def dependency_problems(dependency: CachedDependency) -> Problems:
    """Check a cached dependency."""
    yield from blank(from_=getattr(dependency, "from"), to=dependency.to)
    yield from _checksum(dependency)


def layer_problems(layer: ImageLayer) -> Problems:
    """Check an image layer."""
    yield from blank(url=layer.url, destination_path=layer.destination_path)
    if layer.layer_type not in {ImageLayer.SHARED, ImageLayer.EXCLUSIVE}:
        yield field("layer_type")
    if layer.media_type not in {ImageLayer.TGZ, ImageLayer.TAR, ImageLayer.ZIP}:
        yield field("media_type")
    needed = layer.layer_type == ImageLayer.EXCLUSIVE or bool(layer.digest_value or layer.digest_algorithm)
    if needed and layer.digest_algorithm not in {ImageLayer.SHA256, ImageLayer.SHA512}:
        yield field("digest_algorithm")
    if needed and not layer.digest_value:
        yield field("digest_value")


def mount_problems(mount: VolumeMount) -> Problems:
    """Check a volume mount."""
    if not mount.driver:
        yield "invalid volume_mount driver"
    if mount.mode not in {"r", "rw"}:
        yield "invalid volume_mount mode"
    if mount.HasField("shared") and not mount.shared.volume_id:
        yield "invalid volume_mount volume id"
    if mount.HasField("dedicated") and not mount.dedicated.mounter_id:
        yield "invalid volume_mount mounter id"


def tag_problems(tag: MetricTagValue) -> Problems:
    """Check a metric tag: exactly one of a static and a dynamic value."""
    if bool(tag.static) == (tag.dynamic in {MetricTagValue.INDEX, MetricTagValue.INSTANCE_GUID}):
        yield field("static")
        yield field("dynamic")


def sidecar_problems(sidecar: Sidecar) -> Problems:
    """Check a sidecar."""
    if not sidecar.HasField("action"):
        yield NO_ACTION
    else:
        yield from within("action", action_problems(sidecar.action))
    yield from negative(memory_mb=sidecar.memory_mb, disk_mb=sidecar.disk_mb)


def negative(**values: int) -> Problems:
    """Yield the names of numbers below zero."""
    return (field(name) for name, value in values.items() if value < 0)


def checks_problems(definition: CheckDefinition) -> Problems:
    """Check a check definition."""
    for check in (*definition.checks, *definition.readiness_checks):
        yield from _check_problems(check)


def _check_problems(check: Check) -> Problems:
    if check.HasField("tcp_check") and check.HasField("http_check"):
        yield field("check")
        return
    port = check.http_check.port if check.HasField("http_check") else check.tcp_check.port
    if port not in PORTS:
        yield field("port")


def rule_problems(rule: SecurityGroupRule, *, knows_icmpv6: bool) -> Problems:
    """Check an egress rule."""
    icmp = {"icmp": "icmp_info"} | ({"icmpv6": "icmpv6_info"} if knows_icmpv6 else {})
    if rule.protocol in {"tcp", "udp"}:
        yield from _port_problems(rule)
        if rule.HasField("icmp_info"):
            yield field("icmp_info")
    elif rule.protocol in icmp or rule.protocol == "all":
        if rule.ports:
            yield field("ports")
        if rule.HasField("port_range"):
            yield field("port_range")
        if rule.HasField("icmp_info") != (rule.protocol in icmp):
            yield field(icmp.get(rule.protocol, "icmp_info"))
    else:
        yield field("protocol")
    yield from _destination_problems(rule)


def _port_problems(rule: SecurityGroupRule) -> Problems:
    if rule.ports and rule.HasField("port_range"):
        yield "Invalid: ports and port_range provided"
    elif not rule.ports and not rule.HasField("port_range"):
        yield "Missing required field: ports or port_range"
    if any(port < 1 for port in rule.ports):
        yield field("ports")
    span = rule.port_range
    if rule.HasField("port_range") and not 1 <= span.start <= span.end:
        yield field("port_range")


def _destination_problems(rule: SecurityGroupRule) -> Problems:
    wrong = [text for text in rule.destinations if not all(map(_is_destination, text.split(",")))]
    if wrong or not rule.destinations:
        yield field(f"destinations [ {' '.join(wrong)} ]")


def _is_destination(text: str) -> bool:
    first, dash, last = text.strip().partition("-")
    try:
        if dash:
            start, end = ipaddress.ip_address(first), ipaddress.ip_address(last)
            return start.version == end.version and start.packed <= end.packed
        ipaddress.ip_network(first, strict=False)
    except ValueError:
        return False
    return True
