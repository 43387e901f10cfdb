"""Locket and leases together: at no moment do two processes believe that they are the active one.

Requests take effect whenever they like, or never, and answers come whenever they like, or never. Processes hang, end and
are started again; servers of Locket come and go.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from protos.locket import locket_pb2 as pb
from reconcile.lease import Lease, LeaseTimes
from tests.simulators.locket import State
from tests.simulators.locket.state import Refusal

TIMES = LeaseTimes(ttl=15.0, retry_interval=5.0)
KEY = "diego-docker-cache"
INSTANCES = 3

LOCK_TTL = 15
DELAYS = (0.0, 0.0, 0.0, 0.5, 4.9, 11.9, 14.9)
PAUSES = (0.5, 2.0, 4.9, 11.9, 14.9)


@dataclass(eq=False)
class Request:
    """A request that is under way.

    Attributes:
        by: The process that has sent it.
        is_taken: Whether it has taken effect; None while that is open.
    """

    by: "Process"
    started_at: float
    is_taken: bool | None = None


@dataclass(eq=False)
class Process:
    """A process that wants to be the active one."""

    owner: str
    lease: Lease = field(default_factory=Lease)

    def resource(self) -> pb.Resource:
        return pb.Resource(key=KEY, owner=self.owner, type="lock", type_code=pb.LOCK)


class World:
    """Three instances, up to two servers of Locket, and a network that delays everything.

    Attributes:
        were_active: The processes that have been active, in order.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.now = 1000.0
        self.state = State(lambda: self.now)
        self.servers = [self.state.start_server()]
        self.started = 0
        self.processes = [self.new_process(number) for number in range(INSTANCES)]
        self.requests: list[Request] = []
        self.were_active: list[Process] = []

    def new_process(self, number: int) -> Process:
        self.started += 1
        return Process(f"vm-{number}-run-{self.started}")

    def step(self) -> None:
        """Let one thing happen."""
        chance = self._chance
        match chance.choices(("pause", "try", "ask", "effect", "answer", "trouble"), (3, 8, 2, 2, 2, 1))[0]:
            case "pause":
                self.now += chance.choice(PAUSES)
            case "try":
                self.try_once(self.some_process(), chance.choice(DELAYS), chance.choice(DELAYS))
            case "ask":
                if (request := self.ask(self.some_process())) is not None:
                    self.requests.append(request)
            case "effect" if self.requests:
                self.let_take_effect(chance.choice(self.requests))
            case "answer" if self.requests:
                self.let_answer(self.requests.pop(chance.randrange(len(self.requests))))
            case "trouble":
                self.make_trouble(chance.randrange(INSTANCES))
        self.check()

    def some_process(self) -> Process:
        """Choose the one that was active last, or any."""
        recent = self.were_active[-1:]
        return self._chance.choice([*recent, *recent, *self.processes])

    def make_trouble(self, number: int) -> None:
        match self._chance.choice(("stop", "hang", "server", "server")):
            case "stop":
                self.stop(self.processes[number])
                self.processes[number] = self.new_process(number)
            case "hang":  # a supervisor that has lost sight of a process starts another one beside it
                self.processes.append(self.processes[number])
                self.processes[number] = self.new_process(number)
            case _ if len(self.servers) < 2:
                self.servers.append(self.state.start_server())
            case _:
                self.state.stop_server(self.servers.pop(number % 2))

    def stop(self, process: Process) -> None:
        process.lease = process.lease.revoked("it ends")
        if self.servers:
            done(lambda: self.state.release(process.resource()))

    def try_once(self, process: Process, before: float, after: float) -> None:
        """Let one request go its way while nothing else happens."""
        if (request := self.ask(process)) is not None:
            self.now += before
            self.let_take_effect(request)
            self.now += after
            self.let_answer(request)

    def ask(self, process: Process) -> Request | None:
        """Begin a request of a process, unless it has lost the lock."""
        process.lease = process.lease.at(self.now)
        return None if process.lease.lost else Request(process, self.now)

    def let_take_effect(self, request: Request) -> None:
        if request.is_taken is None and self.servers:
            burglar = self._chance.choice(self.servers)
            lock = pb.LockRequest(resource=request.by.resource(), ttl_in_seconds=LOCK_TTL)
            request.is_taken = done(lambda: self.state.lock(lock, burglar))

    def let_answer(self, request: Request) -> None:
        """Let a process learn what became of its request; one without effect by now never gets an answer."""
        lease = request.by.lease
        if request.is_taken:
            request.by.lease = lease.renewed(request.started_at, self.now, TIMES)
        elif lease.valid_until is not None:
            request.by.lease = lease.revoked("refused or lost")

    def check(self) -> None:
        """Hold that one process at most may act."""
        active = [each for each in self.processes if each.lease.at(self.now).remaining(self.now) > 0]
        assert len(active) <= 1, [each.owner for each in active]
        if active and active != self.were_active[-1:]:
            self.were_active += active


def done(effect: Callable[[], None]) -> bool:
    try:
        effect()
    except Refusal:
        return False
    return True


def test_one_process_at_most_may_act_whatever_happens() -> None:
    take_overs = 0
    for seed in range(300):
        world = World(random.Random(seed))
        for _ in range(100):
            world.step()
        take_overs += max(0, len(world.were_active) - 1)

    assert take_overs > 300, "else there was little to see"
