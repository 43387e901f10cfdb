"""A desired LRP with a value in every field that the BBS keeps."""

from protos.bbs.actions_pb2 import (
    Action,
    CodependentAction,
    DownloadAction,
    EmitProgressAction,
    ParallelAction,
    ResourceLimits,
    RunAction,
    SerialAction,
    TimeoutAction,
    TryAction,
    UploadAction,
)
from protos.bbs.cached_dependency_pb2 import CachedDependency
from protos.bbs.certificate_properties_pb2 import CertificateProperties
from protos.bbs.check_definition_pb2 import Check, CheckDefinition, HTTPCheck, TCPCheck
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.environment_variables_pb2 import EnvironmentVariable
from protos.bbs.file_pb2 import File
from protos.bbs.image_layer_pb2 import ImageLayer
from protos.bbs.log_rate_limit_pb2 import LogRateLimit
from protos.bbs.metric_tags_pb2 import MetricTagValue
from protos.bbs.network_pb2 import Network
from protos.bbs.security_group_pb2 import ICMPInfo, PortRange, SecurityGroupRule
from protos.bbs.sidecar_pb2 import Sidecar
from protos.bbs.volume_mount_pb2 import SharedDevice, VolumeMount

NEW_FIELDS = ("volume_mounted_files", "update_strategy")
"""Those of a desired LRP itself that a BBS of 2024 drops."""

RUN = RunAction(
    path="/bin/app",
    args=["-a", "b c"],
    dir="/home",
    env=[EnvironmentVariable(name="A", value="1"), EnvironmentVariable(name="B", value="é")],
    resource_limits=ResourceLimits(nofile=0),
    user="vcap",
    log_source="APP",
    suppress_log_output=True,
    volume_mounted_files=[File(path="a", content="b")],
)
DOWNLOAD = DownloadAction(
    artifact="droplet", to="/d", cache_key="k", log_source="D", user="vcap",
    checksum_algorithm="sha256", checksum_value="00", **{"from": "https://blobs.example/d"},
)  # fmt: skip
UPLOAD = UploadAction(
    artifact="result", to="https://blobs.example/r", user="vcap", log_source="U", **{"from": "/r"}
)


def full_lrp(lrp: DesiredLRP) -> DesiredLRP:
    """Fill what is empty."""
    run = Action(run_action=RUN)
    simple = Action(run_action=RunAction(path="/bin/true", user="vcap"))
    setup = SerialAction(
        actions=[
            Action(download_action=DOWNLOAD),
            Action(upload_action=UPLOAD),
            Action(parallel_action=ParallelAction(actions=[simple], log_source="P")),
            Action(
                emit_progress_action=EmitProgressAction(
                    action=simple, start_message="s", success_message="k", failure_message_prefix="f"
                )
            ),
            Action(codependent_action=CodependentAction(actions=[simple, simple])),
        ],
        log_source="S",
    )
    monitor = TimeoutAction(
        action=Action(try_action=TryAction(action=simple, log_source="T")), timeout_ms=30_000, log_source="H"
    )
    rules = [
        SecurityGroupRule(
            protocol="tcp", destinations=["10.0.0.0/8"], port_range=PortRange(start=1, end=1024), log=True
        ),
        SecurityGroupRule(protocol="udp", destinations=["8.8.8.8"], ports=[53], annotations=["dns"]),
        SecurityGroupRule(protocol="icmp", destinations=["0.0.0.0/0"], icmp_info=ICMPInfo(type=8, code=-1)),
        SecurityGroupRule(protocol="all", destinations=["1.1.1.1-1.1.1.9"]),
    ]
    full = DesiredLRP(
        environment_variables=[EnvironmentVariable(name="LANG", value="C")],
        setup=Action(serial_action=setup),
        action=run,
        monitor=Action(timeout_action=monitor),
        start_timeout_ms=60_000,
        cpu_weight=5,
        privileged=True,
        ports=[8080, 2222],
        log_source="CELL",
        egress_rules=rules,
        cached_dependencies=[
            CachedDependency(
                name="life", to="/tmp/l", cache_key="c", log_source="L", checksum_algorithm="md5",
                checksum_value="00", **{"from": "https://files.example/l"},
            )
        ],
        legacy_download_user="vcap",
        trusted_system_certificates_path="/etc/certs",
        volume_mounts=[
            VolumeMount(
                driver="nfs", container_dir="/v", mode="rw",
                shared=SharedDevice(volume_id="v", mount_config='{"a": 1}'),
            )
        ],
        network=Network(properties={"app_id": "the-app"}),
        max_pids=100,
        certificate_properties=CertificateProperties(organizational_unit=["app:the-app"]),
        image_username="user",
        image_password="password",
        check_definition=CheckDefinition(
            checks=[Check(tcp_check=TCPCheck(port=8080, connect_timeout_ms=1, interval_ms=2))],
            log_source="CHECK",
            readiness_checks=[
                Check(http_check=HTTPCheck(port=8080, request_timeout_ms=1, path="/up", interval_ms=3))
            ],
        ),
        image_layers=[
            ImageLayer(
                name="layer", url="https://blobs.example/x", destination_path="/x",
                layer_type=ImageLayer.EXCLUSIVE, media_type=ImageLayer.TGZ,
                digest_algorithm=ImageLayer.SHA256, digest_value="00",
            )
        ],
        metric_tags={"index": MetricTagValue(dynamic=MetricTagValue.INDEX)},
        sidecars=[Sidecar(action=simple, disk_mb=1, memory_mb=2)],
        log_rate_limit=LogRateLimit(bytes_per_second=0),
        volume_mounted_files=[File(path="etc/x", content="y")],
        update_strategy=DesiredLRP.RECREATE,
    )  # fmt: skip
    full.routes.routes["diego-ssh"] = b'{"container_port":2222,"private_key":"secret"}'
    merged = DesiredLRP()
    merged.CopyFrom(lrp)
    merged.MergeFrom(full)
    merged.action.CopyFrom(run)
    return merged
