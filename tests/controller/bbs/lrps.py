"""A desired LRP for tests that do not care which."""

from protos.bbs.desired_lrp_pb2 import DesiredLRP
from reconcile.lrps import AppGuid, DesiredLrp, ModificationTag, ProcessGuid
from reconcile.references import Rootfs

LRP = DesiredLrp(
    process_guid=ProcessGuid("p"),
    domain="d",
    app_guid=AppGuid("a"),
    rootfs=Rootfs("docker:///x#y"),
    instances=1,
    tag=ModificationTag("e", 1),
    definition=DesiredLRP(process_guid="p", domain="d", root_fs="docker:///x#y").SerializeToString(),
)
