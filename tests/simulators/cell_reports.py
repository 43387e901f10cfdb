"""What a cell tells the BBS of an instance that runs.

Source: rep conversion_helpers.go.
"""

import json

from protos.bbs.actual_lrp_pb2 import ActualLRPInternalRoute, ActualLRPNetInfo, PortMapping
from protos.bbs.actual_lrp_requests_pb2 import StartActualLRPRequest
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.evacuation_pb2 import EvacuateRunningActualLRPRequest
from protos.bbs.metric_tags_pb2 import MetricTagValue
from tests.simulators.cell_settings import CellSettings, Instance


def start_request(lrp: DesiredLRP, instance: Instance, settings: CellSettings) -> StartActualLRPRequest:
    """Write that an instance runs."""
    evacuate = evacuate_request(lrp, instance, settings)
    return StartActualLRPRequest(
        actual_lrp_key=evacuate.actual_lrp_key,
        actual_lrp_instance_key=evacuate.actual_lrp_instance_key,
        actual_lrp_net_info=evacuate.actual_lrp_net_info,
        actual_lrp_internal_routes=evacuate.actual_lrp_internal_routes,
        metric_tags=evacuate.metric_tags,
        Routable=True,
        availability_zone=evacuate.availability_zone,
    )


def evacuate_request(
    lrp: DesiredLRP, instance: Instance, settings: CellSettings
) -> EvacuateRunningActualLRPRequest:
    """Write that an instance runs on a cell that drains."""
    reports = settings.reports_tags
    ports = [
        PortMapping(container_port=port, host_port=instance.host_port + 1000 * at)
        for at, port in enumerate(lrp.ports)
    ]
    return EvacuateRunningActualLRPRequest(
        actual_lrp_key=instance.key,
        actual_lrp_instance_key=instance.instance_key,
        actual_lrp_net_info=ActualLRPNetInfo(address="127.0.0.1", ports=ports, instance_address="10.255.0.2"),
        actual_lrp_internal_routes=_internal_routes(lrp) if reports else (),
        metric_tags=_resolved_tags(lrp, instance) if reports else {},
        Routable=True,
        availability_zone=settings.zone if reports else "",
    )


def _internal_routes(lrp: DesiredLRP) -> list[ActualLRPInternalRoute]:
    routes: list[dict[str, str]] = json.loads(lrp.routes.routes.get("internal-router", b"[]"))
    return [ActualLRPInternalRoute(hostname=route["hostname"]) for route in routes]


def _resolved_tags(lrp: DesiredLRP, instance: Instance) -> dict[str, str]:
    dynamic = {
        MetricTagValue.INDEX: str(instance.key.index),
        MetricTagValue.INSTANCE_GUID: instance.instance_key.instance_guid,
    }
    return {name: dynamic.get(tag.dynamic, tag.static) for name, tag in lrp.metric_tags.items()}
