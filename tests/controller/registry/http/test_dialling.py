"""How a connection is opened: which address wins, and that one time limit holds for all of it."""

import contextlib
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from controller.registry.http.addresses import AddressRules
from controller.registry.http.deadlines import DeadlineTimer
from controller.registry.http.dialling import MOST_ADDRESSES, Dialler
from controller.registry.http.home import Home
from controller.registry.http.lookups import Address, Lookups
from controller.registry.http.request import RequestContext
from controller.registry.http.urls import Origin
from controller.threads import Cancellation, Stopped
from reconcile.errors import Invalid

ANY_ADDRESS = AddressRules(any_address=True)

pytestmark = pytest.mark.usefixtures("servers")

ORIGIN = Origin("https", "r.example", 443)
LONG = 60.0
SHORT = 0.3


class Known(Lookups):
    """A resolver that knows the addresses of every host."""

    def __init__(self, *addresses: Address) -> None:
        super().__init__()
        self._addresses = addresses

    def find(self, host: str, port: int, seconds: float, cancellation: Cancellation) -> tuple[Address, ...]:
        return self._addresses


def at(address: str, port: int) -> Address:
    return Address(socket.AF_INET, (address, port))


@pytest.fixture
def timer() -> Iterator[DeadlineTimer]:
    made = DeadlineTimer()
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def context(cancellation: Cancellation | None = None, rules: AddressRules = ANY_ADDRESS) -> RequestContext:
    return RequestContext(Home("r.example", ORIGIN), rules, cancellation or Cancellation())


def test_an_address_that_answers_wins_over_any_number_that_do_not(
    timer: DeadlineTimer, server: socket.socket, silent_port: int
) -> None:
    silent = [at(f"127.0.0.{n}", silent_port) for n in range(1, 4)]
    dialler = Dialler(timer, Known(*silent, at(*server.getsockname())), LONG)

    connection = dialler.open(ORIGIN, context(), None, seconds=LONG)

    assert connection.sock.getpeername() == server.getsockname()
    assert connection.sock.gettimeout() == LONG
    connection.close()


def test_an_address_that_refuses_is_followed_by_the_next_at_once(
    timer: DeadlineTimer, server: socket.socket
) -> None:
    refusing = [at(f"127.0.0.{n}", 1) for n in range(1, 9)]
    clock = itertools.count().__next__  # a second each time: waiting for a moment would be seen
    dialler = Dialler(timer, Known(*refusing, at(*server.getsockname())), LONG, clock)

    connection = dialler.open(ORIGIN, context(), None, seconds=LONG)

    assert connection.sock.getpeername() == server.getsockname()
    connection.close()


@pytest.mark.parametrize("count", [1, 20])
def test_addresses_that_do_not_answer_share_one_time_limit(
    timer: DeadlineTimer, silent_port: int, count: int
) -> None:
    """Each once had a limit of its own: a name with 20 of them took 20 times as long."""
    silent = [at(f"127.0.0.{n}", silent_port) for n in range(1, 1 + count)]
    ticks = itertools.count(0.0, SHORT / 4)
    dialler = Dialler(timer, Known(*silent), LONG, lambda: next(ticks))

    with pytest.raises(TimeoutError):
        dialler.open(ORIGIN, context(), None, seconds=SHORT)

    assert next(ticks) < SHORT * 3


def test_a_name_with_very_many_addresses_is_attempted_at_some_of_them(
    timer: DeadlineTimer, server: socket.socket
) -> None:
    refusing = [at("127.0.0.1", 1)] * MOST_ADDRESSES
    dialler = Dialler(timer, Known(*refusing, at(*server.getsockname())), LONG)

    with pytest.raises(ConnectionRefusedError):
        dialler.open(ORIGIN, context(), None, seconds=LONG)


def test_the_families_of_addresses_are_attempted_in_turn(timer: DeadlineTimer, server: socket.socket) -> None:
    """A host whose IPv6 addresses all refuse is reached by IPv4."""
    refusing = [Address(socket.AF_INET6, ("::1", 1, 0, 0))] * MOST_ADDRESSES
    dialler = Dialler(timer, Known(*refusing, at(*server.getsockname())), LONG)

    connection = dialler.open(ORIGIN, context(), None, seconds=LONG)

    assert connection.sock.getpeername() == server.getsockname()
    connection.close()


def test_only_permitted_addresses_are_connected_to(timer: DeadlineTimer, server: socket.socket) -> None:
    rules = AddressRules((ip_network("127.0.0.2/32"),))
    dialler = Dialler(timer, Known(at(*server.getsockname()), at("10.1.2.3", 80)), LONG)

    with pytest.raises(Invalid, match=r"r\.example is at 127\.0\.0\.1, 10\.1\.2\.3") as refused:
        dialler.open(ORIGIN, context(rules=rules), None, seconds=LONG)

    assert refused.value.code == "address-refused"
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.accept()


def test_a_cancellation_ends_an_attempt_that_nobody_answers(timer: DeadlineTimer, silent_port: int) -> None:
    cancellation = Cancellation()
    dialler = Dialler(timer, Known(at("127.0.0.1", silent_port)), LONG)
    stopped = threading.Event()

    def dial() -> None:
        try:
            dialler.open(ORIGIN, context(cancellation), None, seconds=3 * LONG)
        except Stopped:
            stopped.set()

    thread = threading.Thread(target=dial, daemon=True)
    thread.start()
    while not cancellation._sockets:
        time.sleep(0.001)
    cancellation.cancel()
    thread.join(LONG)

    assert stopped.is_set()


@pytest.mark.parametrize("drips", [False, True])
def test_a_tls_handshake_cannot_be_drawn_out(
    timer: DeadlineTimer, server: socket.socket, *, drips: bool
) -> None:
    """A limit between two bytes is met by a server that sends one now and then."""
    dialler = Dialler(timer, Known(at(*server.getsockname())), LONG)
    is_over = threading.Event()

    def serve() -> None:
        peer, _ = server.accept()
        with peer, contextlib.suppress(OSError):
            peer.sendall(b"\x16\x03\x03\x40\x00")  # a record of the handshake with 16 KiB
            while not is_over.wait(0.01):
                peer.sendall(b"\x00" if drips else b"")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with pytest.raises(TimeoutError):
        dialler.open(ORIGIN, context(), ssl.create_default_context(), seconds=SHORT)
    is_over.set()
    thread.join()


# Names


def test_a_name_that_is_not_found_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()

    def resolve(*_: object, **__: object) -> list[object]:
        is_over.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    with pytest.raises(TimeoutError, match=r"the address of r\.example was not found in time"):
        Lookups().find("r.example", 443, 0.01, Cancellation())

    is_over.set()


def test_all_who_want_one_name_share_a_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name whose servers do not answer holds one thread, however often it is asked for."""
    is_over, asked = threading.Event(), list[object]()
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]

    def resolve(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        is_over.wait()
        return [*found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    lookups, results = Lookups(), list[object]()
    for _ in range(5):
        with pytest.raises(TimeoutError):
            lookups.find("slow.example", 443, 0.0, Cancellation())
    waiting = threading.Thread(
        target=lambda: results.append(lookups.find("slow.example", 443, LONG, Cancellation()))
    )
    waiting.start()
    is_over.set()
    waiting.join()

    assert asked == ["slow.example"]
    assert results == [(Address(socket.AF_INET, ("192.0.2.1", 443)),)]


def test_another_name_does_not_wait_for_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()

    def resolve(host: str, *_: object, **__: object) -> list[object]:
        if host == "slow.example":
            is_over.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    lookups = Lookups()
    with pytest.raises(TimeoutError):
        lookups.find("slow.example", 443, 0.0, Cancellation())

    assert len(lookups.find("r.example", 443, LONG, Cancellation())) == 1
    is_over.set()


def test_a_name_without_an_address_is_an_error_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    lookups = Lookups()

    for _ in range(2):
        with pytest.raises(socket.gaierror):
            lookups.find("r.example", 443, LONG, Cancellation())


def test_a_cancellation_ends_the_wait_for_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over, is_asked, cancellation = threading.Event(), threading.Event(), Cancellation()

    def resolve(*_: object, **__: object) -> list[object]:
        is_asked.set()
        is_over.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    def cancel() -> None:
        is_asked.wait()
        cancellation.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()

    with pytest.raises(Stopped):
        Lookups().find("r.example", 443, LONG, cancellation)

    is_over.set()
    canceller.join()
