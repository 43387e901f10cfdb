"""Parses the progress stream of a docker daemon: one JSON object a line, with errors anywhere among them.

Lines are split here, since the SDK's decoder fails on white space between objects. Every field is
optional and unknown ones are ignored: they change between versions of the daemon.

Source: moby pkg/jsonmessage; streams of daemon 20.10.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from controller.engines.docker_errors import error_from_text, is_disk_full
from controller.engines.progress import ProgressMeter
from reconcile.errors import Unavailable
from reconcile.references import Digest, parse_digest

_LONGEST_LINE = 1024 * 1024
_PUSHED = re.compile(r"digest: (sha256:[0-9a-f]{64}) size: [0-9]+")
_RETRYING = "Retrying in"
_SKIPPED = ("Already exists", "Layer already exists", "Mounted from")
_DONE = frozenset({"Download complete", "Pull complete", "Pushed"})
_MOVING = frozenset({"Downloading", "Pushing"})


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One line of a stream.

    Attributes:
        status: What the daemon is doing, in its words; empty when it does not state it.
        layer: First 12 digits of the layer's digest, which is that of the compressed layer on pull and of
            the uncompressed one on push.
        current: Bytes so far; None when the daemon does not state them.
        total: Bytes in all; None when the daemon does not state or know them.
        digest: Of the manifest that a push wrote; in the last lines only.
    """

    status: str = ""
    layer: str = ""
    current: int | None = None
    total: int | None = None
    digest: Digest | None = None


def read_events(
    chunks: Iterable[bytes | str], attempted: str, secrets: tuple[str, ...]
) -> Iterator[ProgressEvent]:
    """Yield the events of a stream as they arrive.

    Args:
        chunks: The stream, split anywhere.
        attempted: What was attempted on which image, for messages.
        secrets: Texts that must not be shown in messages.

    Raises:
        DockerCacheError: A line reports a failure, whatever came before it.
        Unavailable: `stream-cut` when it ends inside an object, `stream-malformed`.
    """
    for line in _lines(chunks, attempted):
        message = _parse(line, attempted)
        text, code = _failure(message)
        if text or code is not None:
            raise error_from_text(text, attempted, code=code, secrets=secrets)
        yield _event(message)


def _lines(chunks: Iterable[bytes | str], attempted: str) -> Iterator[bytes]:
    rest = bytearray()  # a line that has not ended yet
    for chunk in chunks:
        first, *others = (chunk.encode() if isinstance(chunk, str) else chunk).split(b"\n")
        rest += first
        if others:
            *lines, last = bytes(rest), *others
            rest = bytearray(last)
            yield from (line for line in lines if line.strip())
        if len(rest) > _LONGEST_LINE:
            raise Unavailable("docker", "stream-malformed", f"{attempted}: a line is longer than 1 MiB")
    line = bytes(rest)
    if not line.strip():
        return
    try:
        json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Unavailable(
            "docker", "stream-cut", f"{attempted}: the stream was cut inside an object"
        ) from error
    yield line


def _parse(line: bytes, attempted: str) -> Mapping[str, object]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Unavailable("docker", "stream-malformed", f"{attempted}: a line is not JSON") from error
    return message if isinstance(message, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _failure(message: Mapping[str, object]) -> tuple[str, int | None]:
    """Return the text and the code of a failure that a line reports; empty and None when it reports none."""
    status, detail = _text(message.get("status")), message.get("errorDetail")
    text = _text(message.get("error"))
    if isinstance(detail, dict):
        return _text(detail.get("message")) or text or "no reason given", _number(detail.get("code"))
    if text or message.get("error"):
        return text or "no reason given", None
    return (status if is_disk_full(status) else ""), None


def _event(message: Mapping[str, object]) -> ProgressEvent:
    detail, aux, status = message.get("progressDetail"), message.get("aux"), _text(message.get("status"))
    detail = detail if isinstance(detail, dict) else {}
    pushed = _PUSHED.search(status)
    digest = _text(aux.get("Digest")) if isinstance(aux, dict) else pushed[1] if pushed else ""
    return ProgressEvent(
        status=status,
        layer=_text(message.get("id")),
        current=_number(detail.get("current")),
        total=_number(detail.get("total")) or None,
        digest=parse_digest(digest) if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) else None,
    )


class LayerProgress:
    """Reports the progress of one stream's layers to a meter.

    Args:
        meter: Counts compressed bytes; the daemon's counts are scaled to them.
        sizes: Digest of a layer, as this stream names it, to its compressed size.
    """

    def __init__(self, meter: ProgressMeter, sizes: Mapping[Digest, int]) -> None:
        self._meter = meter
        self._sizes = {digest.hex[:12]: size for digest, size in sizes.items()}
        self._counted: dict[str, int] = {}
        self._retrying: set[str] = set()

    def record(self, event: ProgressEvent) -> None:
        """Count the progress that an event reports."""
        if event.status.startswith(_RETRYING):
            if event.layer not in self._retrying:  # the daemon counts the wait down, one event a second
                self._meter.add_retries()
            self._retrying.add(event.layer)
            return
        self._retrying.discard(event.layer)
        size, before = self._sizes.get(event.layer), self._counted.get(event.layer, 0)
        if size is None:
            return
        if event.status.startswith(_SKIPPED):
            self._meter.add_skipped(size - before)
            self._counted[event.layer] = size
            return
        now = before
        if event.status in _DONE:
            now = size
        elif event.status in _MOVING and event.current is not None and event.total is not None:
            now = min(size, size * event.current // event.total)
        if now > before:  # the count falls back when a layer is started again
            self._meter.add_transferred(now - before)
            self._counted[event.layer] = now
