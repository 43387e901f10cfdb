"""Makes what clients of gRPC have in common: credentials that follow their files, and options of channels.

Source: gRPC core's channel arguments (grpc/impl/channel_arg_names.h).
"""

import time
from collections.abc import Callable
from typing import Any

import grpc

from controller.file_values import FileValue
from controller.mutual_tls import MutualTls
from controller.transport import client_tls


def follow_files(
    tls: MutualTls, *, clock: Callable[[], float] = time.monotonic
) -> FileValue[grpc.ChannelCredentials]:
    """Make credentials of the files, and follow them; blocks.

    Raises:
        Invalid: The files are not a CA certificate, and a certificate with its key.
    """

    def make() -> grpc.ChannelCredentials:
        # gRPC would take files that do not fit, and then fail without a word on why.
        client_tls(tls.ca_cert_file, cert_file=tls.cert_file, key_file=tls.key_file)
        return grpc.ssl_channel_credentials(
            root_certificates=tls.ca_cert_file.read_bytes(),
            private_key=tls.key_file.read_bytes(),
            certificate_chain=tls.cert_file.read_bytes(),
        )

    return FileValue((tls.ca_cert_file, tls.cert_file, tls.key_file), make, clock=clock)


def common_options(most_bytes: int) -> list[tuple[str, Any]]:
    """List what each channel is opened with.

    Args:
        most_bytes: Of one answer.
    """
    return [
        ("grpc.primary_user_agent", "diego-docker-cache"),
        ("grpc.max_receive_message_length", most_bytes),
        ("grpc.enable_retries", 0),  # attempts are made anew by the caller
        ("grpc.enable_http_proxy", 0),  # whatever the environment says
        ("grpc.use_local_subchannel_pool", 1),  # a new channel means a new connection
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]
