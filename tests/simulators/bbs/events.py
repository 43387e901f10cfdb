"""Events of the BBS: which hub carries what, bounded subscriptions, and the text of one event.

What a connection does with its subscriptions is the neighbour's (`streams`).
Source: bbs events/hub.go, events/event_source.go, models/events.go; go-sse sse/event.go.
"""

import asyncio
import base64
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.message import Message

from protos.bbs import events_pb2 as wire
from protos.bbs.actual_lrp_pb2 import ActualLRP, ActualLRPInfo

BUFFER_SIZE = 1024
BURST = 256


class Topic(StrEnum):
    """The hubs; the fourth one upstream, for groups of actual LRPs, is deprecated and left out."""

    DESIRED = "desired"
    INSTANCES = "instances"
    TASKS = "tasks"


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it waits in a buffer.

    Attributes:
        cell_id: The cell by which the instance stream filters; None is never filtered out.
    """

    topic: Topic
    name: str
    payload: bytes
    cell_id: str | None = None


_NAMES: dict[type[Message], tuple[Topic, str]] = {
    wire.DesiredLRPCreatedEvent: (Topic.DESIRED, "desired_lrp_created"),
    wire.DesiredLRPChangedEvent: (Topic.DESIRED, "desired_lrp_changed"),
    wire.DesiredLRPRemovedEvent: (Topic.DESIRED, "desired_lrp_removed"),
    wire.ActualLRPInstanceCreatedEvent: (Topic.INSTANCES, "actual_lrp_instance_created"),
    wire.ActualLRPInstanceChangedEvent: (Topic.INSTANCES, "actual_lrp_instance_changed"),
    wire.ActualLRPInstanceRemovedEvent: (Topic.INSTANCES, "actual_lrp_instance_removed"),
    wire.ActualLRPCrashedEvent: (Topic.INSTANCES, "actual_lrp_crashed"),
    wire.TaskCreatedEvent: (Topic.TASKS, "task_created"),
    wire.TaskChangedEvent: (Topic.TASKS, "task_changed"),
    wire.TaskRemovedEvent: (Topic.TASKS, "task_removed"),
}


def event_from_message(message: Message, cell_id: str | None = None) -> Event:
    """Freeze a message into an event, so that later changes of a row do not show in it."""
    topic, name = _NAMES[type(message)]
    return Event(topic, name, message.SerializeToString(deterministic=True), cell_id)


def frame(number: int, event: Event) -> bytes:
    """Write one event of a stream; `number` counts the events of that connection."""
    data = base64.b64encode(event.payload).decode()
    return f"id: {number}\nevent: {event.name}\ndata: {data}\n\n".encode()


def instance_created(row: ActualLRP, trace_id: str = "") -> Event:
    """Tell of a row that is new, or that became UNCLAIMED again."""
    message = wire.ActualLRPInstanceCreatedEvent(actual_lrp=row, trace_id=trace_id)
    return event_from_message(message, row.actual_lrp_instance_key.cell_id)


def instance_removed(row: ActualLRP, trace_id: str = "") -> Event:
    """Tell of a row that is gone, or that a retire call asked to stop."""
    message = wire.ActualLRPInstanceRemovedEvent(actual_lrp=row, trace_id=trace_id)
    return event_from_message(message, row.actual_lrp_instance_key.cell_id)


def instance_changed(before: ActualLRP, after: ActualLRP, trace_id: str = "") -> Event:
    """Tell of a changed row; the instance key is the later one, or the earlier if that is empty."""
    key = after.actual_lrp_instance_key
    if not key.instance_guid:
        key = before.actual_lrp_instance_key
    message = wire.ActualLRPInstanceChangedEvent(
        actual_lrp_key=after.actual_lrp_key,
        actual_lrp_instance_key=key,
        before=_info(before),
        after=_info(after),
        trace_id=trace_id,
    )
    return event_from_message(message, key.cell_id)


def instance_crashed(before: ActualLRP, after: ActualLRP, reason: str) -> Event:
    """Tell of a crash, with the full reason, however much of it the row keeps."""
    message = wire.ActualLRPCrashedEvent(
        actual_lrp_key=before.actual_lrp_key,
        actual_lrp_instance_key=before.actual_lrp_instance_key,
        crash_count=after.crash_count,
        crash_reason=reason,
        since=after.since,
    )
    return event_from_message(message, before.actual_lrp_instance_key.cell_id)


def _info(row: ActualLRP) -> ActualLRPInfo:
    return ActualLRPInfo(
        actual_lrp_net_info=row.actual_lrp_net_info,
        crash_count=row.crash_count,
        crash_reason=row.crash_reason,
        state=row.state,
        placement_error=row.placement_error,
        since=row.since,
        modification_tag=row.modification_tag,
        presence=row.presence,
        Routable=row.routable,
        availability_zone=row.availability_zone,
    )


class Subscription:
    """What waits for one subscriber of one hub: at most 1024 events, then it is closed."""

    def __init__(self, topic: Topic, wake: Callable[[], None]) -> None:
        self.topic = topic
        self.waiting: deque[tuple[int, Event]] = deque()
        self.closed = False
        self._wake = wake

    def add(self, number: int, event: Event) -> None:
        """Buffer an event; without room, close instead."""
        if len(self.waiting) >= BUFFER_SIZE:
            self.close()
            return
        self.waiting.append((number, event))
        self._wake()

    def close(self) -> None:
        """Let nothing more in. What waits is still delivered."""
        self.closed = True
        self._wake()


class EventBus:
    """Carries events from operations to subscriptions, operation by operation.

    Within one call of `emit` the order holds. With `reorder`, events of different calls
    overtake each other, as those of independent goroutines do.
    """

    def __init__(self) -> None:
        self.published = 0
        self.lost = 0
        self.losing = False
        self.observers: list[Callable[[], None]] = []
        self._subscriptions: set[Subscription] = set()
        self._queue: asyncio.Queue[tuple[Event, ...]] = asyncio.Queue()
        self._timers: set[asyncio.TimerHandle] = set()
        self._random: random.Random | None = None
        self._spread = 0.0

    def reorder(self, seed: int | None, spread: float = 0.02) -> None:
        """Hold each operation's events back for up to `spread` seconds; no seed means in order."""
        self._random = None if seed is None else random.Random(seed)
        self._spread = spread

    def emit(self, events: Iterable[Event]) -> None:
        """Publish the events of one operation, soon; observers see at once what it has changed."""
        batch = tuple(events)
        for observer in self.observers:
            observer()
        if self.losing:
            self.lost += len(batch)
        elif self._random is None:
            self._queue.put_nowait(batch)
        else:
            delay = self._random.uniform(0, self._spread)
            loop = asyncio.get_running_loop()
            self._timers = {timer for timer in self._timers if timer.when() > loop.time()}
            self._timers.add(loop.call_later(delay, self._queue.put_nowait, batch))

    def subscribe(self, topic: Topic, wake: Callable[[], None]) -> Subscription:
        """Start to buffer a hub's events; `wake` is called whenever there is something to do."""
        subscription = Subscription(topic, wake)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        self._subscriptions.discard(subscription)

    def close_subscriptions(self) -> None:
        """End all subscriptions, as a BBS does that stops or loses its lock."""
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()

    async def run(self) -> None:
        """Publish until cancelled, giving the streams a turn after each burst."""
        while True:
            for event in await self._queue.get():
                self._publish(event)
                if self.published % BURST == 0:
                    await asyncio.sleep(0)
            self._queue.task_done()

    async def settle(self) -> None:
        """Wait until all that was emitted in order is in the subscribers' buffers."""
        await self._queue.join()

    def close(self) -> None:
        """Cancel what reordering still holds back."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _publish(self, event: Event) -> None:
        self.published += 1
        for subscription in tuple(self._subscriptions):
            if subscription.topic is event.topic:
                subscription.add(self.published, event)
                if subscription.closed:
                    self._subscriptions.discard(subscription)
