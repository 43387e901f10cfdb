"""Writes log lines of apps, and counters of this program, as envelopes.

Source: cloudfoundry/loggregator-api v2/envelope.proto; the limit of a line is that of Diego's cells (executor
depot/log_streamer).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from protos.loggregator import envelope_pb2 as pb
from reconcile.app_log_lines import AppLogLine, ComponentCounter

MAX_LINE = 61_440
"""Bytes of a line, as cells cut them."""

FIRST_INSTANCE = "0"
"""Index under which lines about all instances of an app, and about its staging, are shown."""


@dataclass(frozen=True, slots=True)
class Component:
    """How this program names itself in envelopes.

    Attributes:
        origin: Tag `origin` of all envelopes.
        source_id: Source ID of envelopes about this program itself.
        instance_id: Instance ID of envelopes about this program itself.
    """

    origin: str
    source_id: str
    instance_id: str


def batch_of(entries: Iterable[AppLogLine | ComponentCounter], component: Component) -> pb.EnvelopeBatch:
    """Write log lines and counters as one batch, in their order."""
    return pb.EnvelopeBatch(
        batch=[
            _log(entry, component) if isinstance(entry, AppLogLine) else _counter(entry, component)
            for entry in entries
        ]
    )


def _log(line: AppLogLine, component: Component) -> pb.Envelope:
    tags = {
        "app_id": line.app_guid,
        **line.tags,
        "source_type": line.source_type,
        "origin": component.origin,
    }
    kind = pb.Log.ERR if line.is_error else pb.Log.OUT
    return pb.Envelope(
        timestamp=line.at,
        source_id=line.app_guid,
        instance_id=FIRST_INSTANCE,
        tags=tags,
        log=pb.Log(payload=payload_of(line.text), type=kind),
    )


def _counter(counter: ComponentCounter, component: Component) -> pb.Envelope:
    return pb.Envelope(
        timestamp=counter.at,
        source_id=component.source_id,
        instance_id=component.instance_id,
        tags={"origin": component.origin},
        counter=pb.Counter(name=counter.name, total=counter.total),
    )


def payload_of(text: str) -> bytes:
    """Write a text as one line of UTF-8, cut between two characters where it is too long."""
    line = " ".join(text.split()).encode(errors="replace")
    return line if len(line) <= MAX_LINE else line[:MAX_LINE].decode(errors="ignore").encode()
