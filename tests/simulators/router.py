"""A simulated route-emitter with its router: learns from the BBS which instances serve a hostname, and sends them requests.

It reads the BBS in process: events change the table, and a periodic sync mends what they missed.
Routes of a domain that is not fresh stay when a sync does not find them; instances go.
Source: route-emitter watcher/watcher.go, syncer/syncer.go, routehandlers/handler.go, routingtable/routingtable.go;
gorouter proxy/round_tripper/proxy_round_tripper.go, route/roundrobin.go.
"""

import asyncio
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from protos.bbs import events_pb2 as wire
from protos.bbs.actual_lrp_pb2 import ActualLRP
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.modification_tag_pb2 import ModificationTag
from tests.simulators.app_processes import AppProcesses
from tests.simulators.bbs import Bbs
from tests.simulators.bbs.actual import RUNNING
from tests.simulators.bbs.events import Event, Subscription, Topic
from tests.simulators.routing_table import Backend, RoutingTable

CF_ROUTER = "cf-router"
ATTEMPTS = 3
"""Backends that a request is sent to until one accepts it."""
SKIPS_FAILED_FOR = 120.0
"""Seconds for which a backend that refused a connection is chosen only when there is no other."""


class Ending(StrEnum):
    """How a request ends."""

    ANSWERED = "answered"
    CUT = "its backend ended while it was in flight"
    REFUSED = "each backend that was tried was gone"
    NO_BACKEND = "no backend is known"


Report = Callable[[Ending, Backend | None], None]


@dataclass(frozen=True, slots=True)
class _Routes:
    domain: str
    hostnames: frozenset[str]
    tag: ModificationTag


class Router:
    """One route-emitter and its router, to be used as an async context manager.

    Attributes:
        syncs: How often it has listed the BBS.
    """

    def __init__(
        self,
        bbs: Bbs,
        processes: AppProcesses,
        *,
        seed: int = 1,
        sync_interval: float = 60.0,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.syncs = 0
        self._bbs = bbs
        self._processes = processes
        self._table = RoutingTable(random.Random(seed))
        self._sync_interval = sync_interval
        self._attempts = attempts
        self._turn = 0
        self._failed_at: dict[Backend, float] = {}
        self._routes: dict[str, _Routes] = {}
        self._instances: dict[str, dict[Backend, ModificationTag]] = {}
        self._subscriptions: list[Subscription] = []
        self._wake = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._subscribe()
        self.sync()
        self._loops = [asyncio.create_task(loop) for loop in (self._follow(), self._sync_forever())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for loop in self._loops:
            loop.cancel()
        await asyncio.wait(self._loops)
        self._unsubscribe()

    def backends(self, hostname: str) -> list[Backend]:
        """List the backends of a hostname that the router knows at this moment."""
        return self._table.backends(hostname)

    def send(self, hostname: str, seconds: float, report: Report) -> None:
        """Send a request that takes some seconds; its ending is reported with the backend that was at fault."""
        backends = self.backends(hostname)
        if not backends:
            report(Ending.NO_BACKEND, None)
            return
        backend = self._next(backends)
        for attempt in range(self._attempts):
            if self._begin(backend, seconds, report):
                return
            self._failed_at[backend] = asyncio.get_running_loop().time()
            if attempt < self._attempts - 1:
                backend = self._next(backends)
        report(Ending.REFUSED, backend)

    def _next(self, backends: Sequence[Backend]) -> Backend:
        """Take the next in turn, one that has failed lately only when there is no other."""
        self._turn += 1
        first = self._turn % len(backends)
        in_turn = [*backends[first:], *backends[:first]]
        forgiven = asyncio.get_running_loop().time() - SKIPS_FAILED_FOR
        return next((one for one in in_turn if self._failed_at.get(one, -math.inf) < forgiven), in_turn[0])

    def _begin(self, backend: Backend, seconds: float, report: Report) -> bool:
        def end(is_answered: bool) -> None:  # noqa: FBT001 - a callback with one argument
            report(Ending.ANSWERED if is_answered else Ending.CUT, backend)

        return self._processes.begin(backend.instance_guid, seconds, end)

    def sync(self) -> None:
        """List what there is, and publish what has changed."""
        self.syncs += 1
        state = self._bbs.state
        fresh = state.fresh_domains()
        before = self._routes.keys() | self._instances.keys()
        kept = {guid: each for guid, each in self._routes.items() if each.domain not in fresh}
        self._routes = kept | {guid: _routes_of(lrp) for guid, lrp in state.desired.items()}
        self._instances = {}
        for row in state.rows():
            if row.state == RUNNING and row.routable:
                backend = _backend(row)
                self._instances.setdefault(backend.process_guid, {})[backend] = _copy(row.modification_tag)
        for guid in before | self._routes.keys() | self._instances.keys():
            self._publish(guid)

    async def _sync_forever(self) -> None:
        while True:
            await asyncio.sleep(self._sync_interval)
            self.sync()

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while waiting := [each for each in self._subscriptions if each.waiting]:
                first = min(waiting, key=lambda each: each.waiting[0][0])
                self._take(first.waiting.popleft()[1])
            if any(subscription.closed for subscription in self._subscriptions):
                self._unsubscribe()
                self._subscribe()

    def _subscribe(self) -> None:
        bus = self._bbs.state.events
        self._subscriptions = [
            bus.subscribe(topic, self._wake.set) for topic in (Topic.DESIRED, Topic.INSTANCES)
        ]

    def _unsubscribe(self) -> None:
        for subscription in self._subscriptions:
            self._bbs.state.events.unsubscribe(subscription)

    def _take(self, event: Event) -> None:
        match event.name:
            case "desired_lrp_created":
                self._desired(wire.DesiredLRPCreatedEvent.FromString(event.payload).desired_lrp)
            case "desired_lrp_changed":
                self._desired(wire.DesiredLRPChangedEvent.FromString(event.payload).after)
            case "desired_lrp_removed":
                self._undesired(wire.DesiredLRPRemovedEvent.FromString(event.payload).desired_lrp)
            case "actual_lrp_instance_created":
                row = wire.ActualLRPInstanceCreatedEvent.FromString(event.payload).actual_lrp
                self._changed(_backend(row), row.modification_tag, serves=_serves(row.state, row.routable))
            case "actual_lrp_instance_changed":
                self._instance_changed(wire.ActualLRPInstanceChangedEvent.FromString(event.payload))
            case "actual_lrp_instance_removed":
                row = wire.ActualLRPInstanceRemovedEvent.FromString(event.payload).actual_lrp
                self._changed(_backend(row), row.modification_tag, serves=False)

    def _desired(self, lrp: DesiredLRP) -> None:
        known = self._routes.get(lrp.process_guid)
        if known is None or _supersedes(lrp.modification_tag, known.tag):
            self._routes[lrp.process_guid] = _routes_of(lrp)
            self._publish(lrp.process_guid)

    def _undesired(self, lrp: DesiredLRP) -> None:
        known = self._routes.get(lrp.process_guid)
        if known is not None and _removes(lrp.modification_tag, known.tag):
            del self._routes[lrp.process_guid]
            self._publish(lrp.process_guid)

    def _instance_changed(self, event: wire.ActualLRPInstanceChangedEvent) -> None:
        backend = Backend(event.actual_lrp_key.process_guid, event.actual_lrp_instance_key.instance_guid)
        serves = _serves(event.after.state, event.after.Routable)
        self._changed(backend, event.after.modification_tag, serves=serves)

    def _changed(self, backend: Backend, tag: ModificationTag, *, serves: bool) -> None:
        guid = backend.process_guid
        instances = self._instances.setdefault(guid, {})
        known = instances.get(backend)
        if not serves:
            if known is None or not _removes(tag, known):
                return
            del instances[backend]
        elif known is None or _supersedes(tag, known):
            instances[backend] = tag
            if guid not in self._routes and guid in self._bbs.state.desired:
                self._routes[guid] = _routes_of(self._bbs.state.desired[guid])
        self._publish(guid)

    def _publish(self, process_guid: str) -> None:
        routes = self._routes.get(process_guid)
        hostnames = frozenset[str]() if routes is None else routes.hostnames
        self._table.publish(self._instances.get(process_guid, ()), hostnames, process_guid)


def _routes_of(lrp: DesiredLRP) -> _Routes:
    routes = json.loads(lrp.routes.routes.get(CF_ROUTER, b"[]"))
    hostnames = frozenset(hostname for route in routes for hostname in route["hostnames"])
    return _Routes(lrp.domain, hostnames, _copy(lrp.modification_tag))


def _backend(row: ActualLRP) -> Backend:
    return Backend(row.actual_lrp_key.process_guid, row.actual_lrp_instance_key.instance_guid)


def _serves(state: str, routable: bool) -> bool:  # noqa: FBT001 - a field of the row
    return state == RUNNING and routable


def _supersedes(tag: ModificationTag, known: ModificationTag) -> bool:
    return not tag.epoch or not known.epoch or tag.epoch != known.epoch or tag.index > known.index


def _removes(tag: ModificationTag, known: ModificationTag) -> bool:
    return _supersedes(tag, known) or tag == known


def _copy(tag: ModificationTag) -> ModificationTag:
    copy = ModificationTag()
    copy.CopyFrom(tag)
    return copy
