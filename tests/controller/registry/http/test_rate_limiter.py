"""Limits of the limiter to a host: rates in virtual time, connections with real threads, wholes by deadline."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network

import pytest

from controller.registry.http.deadlines import DeadlineTimer
from controller.registry.http.rate_limiter import (
    MOST_HOSTS,
    MinimumRate,
    RateLimiter,
    Semaphore,
    SlowSenderError,
    TokenBucket,
    TrafficLimits,
)
from controller.registry.http.settings import RegistrySettings, Timeouts
from controller.registry.oci.blobs import read_blob
from controller.registry.oci.manifests import Descriptor
from controller.registry.registries import ClientPolicy, Registries
from controller.threads import Cancellation, Stopped
from reconcile.errors import Unavailable
from reconcile.references import parse_digest, parse_image_reference
from tests.controller.registry.conftest import AT_ONCE, PATIENT
from tests.simulators import images
from tests.simulators.registry import Drip, Meanwhile, RegistrySimulator, Stall, TokenLogin

LAYER = images.layer(300_000, 1)
BLOB = Descriptor(LAYER.media_type, parse_digest(LAYER.digest), len(LAYER.content))

Open = Callable[..., Registries]


class Clock:
    """A clock that moves when somebody pauses."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("rate", "amounts"), [(2.0, [1.0] * 21), (1000.0, [300.0] * 70), (10.0, [500.0, 1.0, 1.0])]
)
def test_a_bucket_lets_its_rate_pass(rate: float, amounts: list[float]) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, clock)

    for amount in amounts:
        bucket.take(amount, clock.pause)

    assert clock.now - 1000.0 == pytest.approx((sum(amounts) - rate) / rate)


def test_a_bucket_saves_no_more_than_a_second() -> None:
    clock = Clock()
    bucket = TokenBucket(5.0, clock)
    clock.now += 3600.0
    began = clock.now

    for _ in range(15):
        bucket.take(1.0, clock.pause)

    assert clock.now - began == pytest.approx(2.0)


@pytest.mark.parametrize("pieces", [[65_536] * 100, [1_000_000, 0, 0, 0], [2_000_000, 1]])
def test_a_sender_that_keeps_the_minimum_rate_on_average_is_listened_to(pieces: list[int]) -> None:
    clock = Clock()
    minimum = MinimumRate(65_536.0, 30.0, clock)

    for piece in pieces:
        minimum.begin()
        clock.now += 1.0
        minimum.add(piece)


@pytest.mark.parametrize(
    ("piece", "pause"), [(1, 5.0), (0, 30.0), (65_535, 1.0), (1_000_000, 29.0), (100, 0.01)]
)
def test_a_sender_that_drips_is_given_up_after_one_window(piece: int, pause: float) -> None:
    """Whatever it has sent before that window, and however lively it is."""
    clock = Clock()
    minimum = MinimumRate(65_536.0, 30.0, clock)
    minimum.begin()
    clock.now += 30.0
    minimum.add(10**9)
    began = clock.now

    def receive() -> None:
        while clock.now - began < 600.0:
            minimum.begin()
            clock.now += pause
            minimum.add(piece)

    with pytest.raises(SlowSenderError):
        receive()

    assert clock.now - began < 30.0 + 2 * pause


def test_the_time_that_the_receiver_takes_is_not_the_senders() -> None:
    """A private registry, or a limit of the operator's, may be slower than the source."""
    clock = Clock()
    minimum = MinimumRate(65_536.0, 30.0, clock)

    for _ in range(100):
        minimum.begin()
        clock.now += 0.001
        minimum.add(1000)
        clock.now += 60.0


def test_hosts_without_limits_share_what_costs_nothing() -> None:
    limiter = RateLimiter(TrafficLimits(), {"r.example": TrafficLimits(bytes_per_second=5)}, longest_wait=1.0)

    assert limiter.of("a.example") is limiter.of("b.example")
    assert limiter.of("a.example").bytes is None
    assert limiter.of("r.example").bytes is not None
    assert limiter.of("r.example") is limiter.of("r.example")


def test_waiting_for_a_connection_ends_with_the_work() -> None:
    semaphore, cancellation = Semaphore(1, 600.0), Cancellation()
    semaphore.acquire(cancellation, "r.example")
    outcome: list[BaseException] = []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        try:
            semaphore.acquire(cancellation, "r.example")
        except Stopped as stopped:
            outcome.append(stopped)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    waiting.wait(60.0)
    cancellation.cancel()
    thread.join(60.0)

    assert len(outcome) == 1


def test_a_connection_that_never_becomes_free_is_given_up() -> None:
    semaphore = Semaphore(1, 0.0)
    semaphore.acquire(Cancellation(), "r.example")

    with pytest.raises(Unavailable, match="all 1 connections are in use"):
        semaphore.acquire(Cancellation(), "r.example")


@pytest.mark.parametrize(("most", "of_copies"), [(2, 1), (3, 2), (4, 3), (16, 12)])
def test_copies_leave_connections_to_other_work(most: int, of_copies: int) -> None:
    """An upload that keeps the minimum rate may hold its connection for hours."""
    semaphore, copy = Semaphore(most, 0.0), Cancellation(is_of_copy=True)
    for _ in range(of_copies):
        semaphore.acquire(copy, "r.example")

    with pytest.raises(Unavailable, match=f"all {of_copies} connections are in use"):
        semaphore.acquire(copy, "r.example")

    for _ in range(most - of_copies):
        semaphore.acquire(Cancellation(), "r.example")
    with pytest.raises(Unavailable, match=f"all {most} connections are in use"):
        semaphore.acquire(Cancellation(), "r.example")


def test_a_connection_that_ends_goes_to_whoever_may_use_it() -> None:
    """A copy that waits longer, and may not have the last one, does not keep it from others."""
    semaphore, copy, other = Semaphore(2, 60.0), Cancellation(is_of_copy=True), Cancellation()
    semaphore.acquire(other, "r.example")
    semaphore.acquire(other, "r.example")
    got = threading.Event()

    def wait(cancellation: Cancellation) -> None:
        with contextlib.suppress(Stopped):
            semaphore.acquire(cancellation, "r.example")
            got.set()

    threads = [threading.Thread(target=wait, args=(each,), daemon=True) for each in (copy, other)]
    waiting = vars(semaphore._condition)["_waiters"]
    for count, thread in enumerate(threads, 1):
        thread.start()
        while len(waiting) < count:
            time.sleep(0.001)
    semaphore.release()

    assert got.wait(60.0)
    copy.cancel()
    for thread in threads:
        thread.join(60.0)


def test_what_is_urgent_does_not_wait() -> None:
    semaphore = Semaphore(1, 0.0)
    semaphore.acquire(Cancellation(), "r.example")
    semaphore.acquire_at_once()
    semaphore.release()
    semaphore.release()

    semaphore.acquire(Cancellation(), "r.example")


@pytest.fixture
def open_client(registry: RegistrySimulator, request: pytest.FixtureRequest) -> Open:
    registry.store.add_blob("team/app", LAYER.content)

    def opened(
        limits: TrafficLimits = TrafficLimits(),  # noqa: B008 - a frozen value
        timeouts: Timeouts = PATIENT,
    ) -> Registries:
        client = Registries(
            {
                registry.address: RegistrySettings(
                    plain_http=True, allowed_networks=(ip_network("127.0.0.0/8"),)
                )
            },
            timeouts=timeouts,
            retries=AT_ONCE,
            policy=ClientPolicy(limits=limits),
        )
        request.addfinalizer(client.close)
        return client

    return opened


def read(client: Registries, registry: RegistrySimulator) -> bytes:
    image = parse_image_reference(f"{registry.address}/team/app:1")
    repository = client.repository(image, None, Cancellation())
    with read_blob(repository, BLOB, memoryview(bytearray(65536))) as reader:
        return b"".join(bytes(piece) for piece in reader.pieces())


def test_no_more_connections_are_open_than_allowed(registry: RegistrySimulator, open_client: Open) -> None:
    client = open_client(TrafficLimits(connections=2))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: read(client, registry), range(24)))

    assert found == [LAYER.content] * 24
    assert registry.most_connections <= 2


def test_one_connection_is_enough_for_a_request_and_its_token(
    registry: RegistrySimulator, open_client: Open
) -> None:
    registry.login = TokenLogin()

    assert read(open_client(TrafficLimits(connections=1)), registry) == LAYER.content
    assert registry.connections == 1


def test_bytes_are_limited_while_they_come(registry: RegistrySimulator, open_client: Open) -> None:
    """300 kB at 1 MB/s pass at once; the second time the debt of the first must be paid."""
    client = open_client(TrafficLimits(bytes_per_second=1_000_000))

    assert read(client, registry) == LAYER.content


@pytest.mark.parametrize("fault", [Stall(after=1000), Stall(), Drip(after=1000), Drip(after=200_000)])
def test_D15_a_blob_that_drips_is_given_up_after_one_window(  # noqa: N802 - row D15
    registry: RegistrySimulator, open_client: Open, fault: Stall | Drip
) -> None:
    """However lively the connection, and though silence is allowed for longer."""
    registry.fail("GET", "blobs", fault, times=None)
    client = open_client(timeouts=Timeouts(idle=30.0, window=0.1, slowest=10_000_000.0))

    with pytest.raises(Unavailable) as slow:
        read(client, registry)

    assert slow.value.code == "too-slow"


def test_a_connection_has_the_ordinary_time_for_silence_again_after_a_blob(
    registry: RegistrySimulator, open_client: Open
) -> None:
    client = open_client(timeouts=Timeouts(idle=60.0, window=0.2, slowest=0.0))
    assert read(client, registry) == LAYER.content
    registry.fail("HEAD", "blobs", Meanwhile(lambda: time.sleep(0.5)))
    image = parse_image_reference(f"{registry.address}/team/app:1")

    head = client.repository(image, None, Cancellation()).find_blob(BLOB.digest)

    assert head is not None
    assert registry.connections == 1


def test_D15_an_answer_that_never_comes_is_given_up(registry: RegistrySimulator, open_client: Open) -> None:  # noqa: N802 - row D15
    registry.fail("HEAD", "blobs", Stall(after=0), times=None)
    client = open_client(timeouts=Timeouts(idle=30.0, total=0.2))
    listener = socket.create_server(("127.0.0.1", 0))
    image = parse_image_reference(f"127.0.0.1:{listener.getsockname()[1]}/team/app:1")
    silent = Registries(
        {image.domain: RegistrySettings(plain_http=True, any_address=True)},
        timeouts=Timeouts(idle=30.0, total=0.1),
        retries=AT_ONCE,
    )

    with pytest.raises(Unavailable) as slow:
        silent.repository(image, None, Cancellation()).head_manifest("1")

    assert slow.value.code == "too-slow"
    silent.close()
    listener.close()
    client.close()


def test_an_alarm_leaves_what_ended_in_time_alone() -> None:
    ours, theirs = socket.socketpair()
    clock = Clock()
    timer = DeadlineTimer(clock)

    early = timer.start(ours, 0.01)
    timer.cancel(early)
    clock.now += 1.0
    late = timer.start(theirs, 0.0)
    assert ours.recv(1) == b""  # the other end was shut down

    assert (early.has_passed, late.has_passed) == (False, True)
    timer.close()
    for each in (ours, theirs):
        each.close()


def test_of_many_hosts_the_last_ones_are_remembered() -> None:
    limiter = RateLimiter(TrafficLimits(requests_per_second=1.0), {}, longest_wait=1.0)
    first = limiter.of("host-0.example")
    last = [limiter.of(f"host-{number}.example") for number in range(1, MOST_HOSTS + 1)][-1]

    assert limiter.of(f"host-{MOST_HOSTS}.example") is last
    assert limiter.of("host-0.example") is not first
