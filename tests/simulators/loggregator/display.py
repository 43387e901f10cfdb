"""Shows log lines as the command line of Cloud Foundry does.

Source: cloudfoundry/cli util/ui/log_message.go and command/v7/push_command.go.
"""

import datetime as dt
from collections.abc import Iterable, Iterator

from protos.loggregator import envelope_pb2 as pb

_STAGING = "STG"


def cf_logs(envelopes: Iterable[pb.Envelope]) -> Iterator[str]:
    """Show lines as `cf logs` does: each with time, source and stream."""
    for envelope in sorted(envelopes, key=lambda each: each.timestamp):
        at = dt.datetime.fromtimestamp(envelope.timestamp / 1e9, tz=dt.UTC)
        time = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 10_000:02}{at:%z}"
        source = f"[{envelope.tags['source_type']}/{envelope.instance_id}]"
        stream = "ERR" if envelope.log.type == pb.Log.ERR else "OUT"
        for line in envelope.log.payload.decode(errors="replace").split("\n"):
            yield f"   {time} {source} {stream} {line}"


def cf_push(envelopes: Iterable[pb.Envelope]) -> Iterator[str]:
    """Show lines as `cf push` does while it stages: only those of the staging, and without a header."""
    for envelope in sorted(envelopes, key=lambda each: each.timestamp):
        if envelope.tags["source_type"] == _STAGING:
            yield f"   {envelope.log.payload.decode(errors='replace')}"
