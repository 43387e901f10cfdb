"""Turns what happens to images into lines in the logs of their apps.

A caller that reports an event only lets it wait here. A loop of its own writes the line, so that a failure to
write a line never disturbs a copy or a migration.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from controller.app_logs.counters import component_counters
from controller.app_logs.sending import LogQueue
from controller.app_tags import AppTags
from controller.process import Process
from controller.progress import Progress
from reconcile.app_events import (
    AppEvent,
    CopyBegun,
    CopyEvent,
    CopyFailed,
    CopyPostponed,
    CopyProgressed,
    ImageCached,
)
from reconcile.app_log_lines import PROCESS_TAGS, AppLogLine, text_of
from reconcile.line_rates import LineRates
from reconcile.lrps import AppGuid, DesiredLrp
from reconcile.plain_causes import why
from reconcile.records import JobId

log = structlog.get_logger(scope="app-logs")

LOOK_INTERVAL = 15.0
"""Seconds between two looks at copies that are under way."""

PROGRESS_INTERVAL = 30.0
"""Seconds between two lines about how far one copy is."""

POSTPONED_INTERVAL = 1800.0
"""Seconds between two lines about a copy that must wait, as long as it is for the same cause."""

MOST_EVENTS = 5_000
MOST_COPIES = 5_000

_NANOSECONDS = 1_000_000_000

ProgressOf = Callable[[JobId], Progress | None]


@dataclass
class _LongCopy:
    """A copy that is under way for the staging of an app.

    Attributes:
        reported_at: When the last line said how far the copy is, in seconds of the monotonic clock.
        cause: Why the copy must wait, as the last line about that said; empty before the first.
        cause_reported_at: When that line was written, in seconds of the monotonic clock.
    """

    source: str
    reported_at: float
    cause: str = ""
    cause_reported_at: float = 0.0


@dataclass(frozen=True, slots=True)
class _Happened:
    """An event that waits to be written as a line.

    Attributes:
        at: When it happened, in nanoseconds since 1970.
        process_tags: The tags that name the process of the app; empty for an event of the app as a whole.
    """

    app_guid: AppGuid
    event: AppEvent
    at: int
    process_tags: Mapping[str, str]


class AppLogs:
    """Tells app developers what happens to their images.

    Args:
        queue: Takes the lines.
        progress_of: Says how far the copy of a job has come.
        process: The running process.
        tags: The metric tags of the apps, as far as they are known.
    """

    def __init__(self, queue: LogQueue, progress_of: ProgressOf, process: Process, tags: AppTags) -> None:
        self._queue, self._progress_of, self._process = queue, progress_of, process
        self._tags = tags
        self._rates = LineRates()
        self._copies: OrderedDict[tuple[JobId, AppGuid], _LongCopy] = OrderedDict()
        self._events: deque[_Happened] = deque()
        self._has_events = asyncio.Event()
        self._entries = process.metrics.app_logs.entries

    @property
    def problem(self) -> str:
        """Why the agent takes no entries; empty while no reason is known."""
        return self._queue.problem

    def copy_event(self, app_guid: AppGuid, job_id: JobId, event: CopyEvent) -> None:
        """Report what has happened to the copy for the staging of an app."""
        key = (job_id, app_guid)
        match event:
            case CopyBegun(source):
                if key in self._copies:
                    return
                self._watch(key, source)
            case CopyPostponed(source, failure, is_private=is_private):
                cause = why(failure, is_private=is_private)
                if not self._note_cause(self._copies.get(key) or self._watch(key, source), cause):
                    return
            case ImageCached() | CopyFailed():
                self._copies.pop(key, None)
            case _:
                pass
        self.happened(app_guid, event)

    def _watch(self, key: tuple[JobId, AppGuid], source: str) -> _LongCopy:
        copy = self._copies[key] = _LongCopy(source, self._process.monotonic())
        while len(self._copies) > MOST_COPIES:
            self._copies.popitem(last=False)
        return copy

    def _note_cause(self, copy: _LongCopy, cause: str) -> bool:
        """Note why a copy waits, and return whether to report it: it is new, or was not reported lately."""
        now = self._process.monotonic()
        if cause == copy.cause and now - copy.cause_reported_at < POSTPONED_INTERVAL:
            return False
        copy.cause, copy.cause_reported_at = cause, now
        return True

    def happened(self, app_guid: AppGuid, event: AppEvent) -> None:
        """Report what has happened to an app as a whole."""
        self._add(_Happened(app_guid, event, self._now(), {}))

    def lrp_event(self, lrp: DesiredLrp, event: AppEvent) -> None:
        """Report what has happened to an LRP; an LRP without instances only has its tags noted."""
        self._tags.note(lrp.app_guid, lrp.metric_tags)
        if lrp.instances == 0:
            return
        process_tags = {name: value for name, value in lrp.metric_tags.items() if name in PROCESS_TAGS}
        self._add(_Happened(lrp.app_guid, event, self._now(), process_tags))

    def _add(self, happened: _Happened) -> None:
        """Add an event to those that wait, and drop the oldest when there are too many."""
        self._events.append(happened)
        while len(self._events) > MOST_EVENTS:
            self._events.popleft()
            self._entries.labels(outcome="dropped").inc()
        self._has_events.set()

    async def run(self) -> None:
        """Write lines about events, and send them, forever."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._word_forever(), name="app-logs-wording")
            loops.create_task(self._watch_forever(), name="app-logs-watch")
            loops.create_task(self._queue.run(), name="app-logs-sending")

    async def _word_forever(self) -> None:
        while True:
            await self._has_events.wait()
            self.word_events()

    def word_events(self) -> None:
        """Write a line for each waiting event, and queue it; an event that fails is logged and left out."""
        self._has_events.clear()
        while self._events:
            happened = self._events.popleft()
            try:
                self._word(happened)
            except Exception:
                log.exception("failed-to-word-app-log-line", kind=type(happened.event).__name__)

    def _word(self, happened: _Happened) -> None:
        text = text_of(happened.event)
        if text is None:
            return
        if not self._rates.allows(happened.app_guid, self._process.monotonic()):
            self._entries.labels(outcome="limited").inc()
            return
        line = AppLogLine(
            app_guid=happened.app_guid,
            source_type=text.source_type,
            text=text.text,
            at=happened.at,
            is_error=text.is_error,
            tags={**self._tags.of(happened.app_guid), **happened.process_tags},
        )
        self._queue.put(line)

    async def _watch_forever(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_INTERVAL)

    def look(self) -> None:
        """Queue lines about long copies, and the counters for operators; an error is only logged."""
        try:
            self.look_at_copies()
            for counter in component_counters(self._process.metrics, self._now()):
                self._queue.put_counter(counter)
        except Exception:
            log.exception("failed-to-look-at-copies")

    async def flush(self, seconds: float) -> None:
        """Send the entries that are left when the process ends, for some seconds at most."""
        self.look()
        self.word_events()
        await self._queue.flush(seconds)

    def look_at_copies(self) -> None:
        """Add an event for each copy whose last line is `PROGRESS_INTERVAL` ago."""
        now = self._process.monotonic()
        for (job_id, app_guid), copy in self._copies.items():
            progress = self._progress_of(job_id)
            if progress is None or not progress.total or now - copy.reported_at < PROGRESS_INTERVAL:
                continue
            copy.reported_at = now
            done = min(progress.total, progress.transferred + progress.skipped)
            self.happened(app_guid, CopyProgressed(copy.source, done, progress.total))

    def _now(self) -> int:
        return int(self._process.clock() * _NANOSECONDS)
