"""Which connections are kept between requests, how many and for how long."""

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.registry.http.addresses import AddressRules
from controller.registry.http.connection import Connection
from controller.registry.http.idle_connections import (
    IDLE_SECONDS,
    LOOK_AFTER,
    MOST_IDLE,
    MOST_PER_KEY,
    ConnectionKey,
    IdleConnections,
)
from controller.registry.http.settings import TlsFiles
from controller.registry.http.urls import Origin

ANY_ADDRESS = AddressRules(any_address=True)


class World:
    """A clock, the calls that are due, and the servers' ends of connections."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.calls: list[tuple[float, Callable[[], None]]] = []
        self.servers: dict[Connection, socket.socket] = {}
        self.idle = IdleConnections(self.call_after, lambda: self.now)

    def call_after(self, seconds: float, function: Callable[[], None]) -> None:
        self.calls.append((self.now + seconds, function))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with what is due in it."""
        end = self.now + seconds
        while self.calls and self.calls[0][0] <= end:
            self.now, function = self.calls.pop(0)
            function()
        self.now = end

    def keep(self, key: ConnectionKey) -> Connection:
        ours, theirs = socket.socketpair()
        connection = Connection(ours, key.origin)
        self.servers[connection] = theirs
        self.idle.keep(key, connection)
        return connection

    def close(self) -> None:
        for connection, server in self.servers.items():
            connection.close()
            server.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


SYSTEM = TlsFiles()
OTHER = TlsFiles(Path("/ca.pem"))


def key(
    host: str = "r.example",
    rules: AddressRules = ANY_ADDRESS,
    files: TlsFiles = SYSTEM,
    tls: ssl.SSLContext | None = None,
) -> ConnectionKey:
    return ConnectionKey(Origin("http", host, 80), rules, files, tls)


def test_the_connection_that_was_used_last_is_used_next(world: World) -> None:
    first, last = world.keep(key()), world.keep(key())

    assert [world.idle.take(key()) for _ in range(3)] == [last, first, None]
    assert first.is_open
    assert last.is_open


@pytest.mark.parametrize("other", [key("s.example"), key(rules=AddressRules()), key(files=OTHER)])
def test_a_connection_serves_the_requests_that_it_was_opened_for(world: World, other: ConnectionKey) -> None:
    kept = world.keep(key())

    assert world.idle.take(other) is None
    assert world.idle.take(key()) is kept


def test_connections_of_former_certificates_are_closed(world: World) -> None:
    former, present = ssl.create_default_context(), ssl.create_default_context()
    old, new = world.keep(key(tls=former)), world.keep(key(tls=present))

    assert world.idle.take(key(tls=present)) is new
    assert not old.is_open


def test_connections_with_other_files_are_not_former_ones(world: World) -> None:
    """Another session may reach the same host as one that is foreign to it."""
    own, system = ssl.create_default_context(), ssl.create_default_context()
    kept = world.keep(key(files=OTHER, tls=own))

    assert world.idle.take(key(tls=system)) is None
    assert world.idle.take(key(files=OTHER, tls=own)) is kept


def test_many_hosts_do_not_keep_more_than_there_is_room_for(world: World) -> None:
    """Tenants name the hosts, and each connection is an open file."""
    kept = [world.keep(key(f"r{n}.example")) for n in range(MOST_IDLE + 22)]

    assert len(world.idle) == MOST_IDLE
    assert [each.is_open for each in kept] == [False] * 22 + [True] * MOST_IDLE


def test_a_connection_that_was_used_again_outlasts_those_that_were_not(world: World) -> None:
    first, second = world.keep(key("first.example")), world.keep(key("second.example"))
    taken = world.idle.take(key("first.example"))
    assert taken is first
    world.idle.keep(key("first.example"), first)

    for n in range(MOST_IDLE - 1):
        world.keep(key(f"r{n}.example"))

    assert (first.is_open, second.is_open) == (True, False)


def test_one_host_keeps_a_part_of_them(world: World) -> None:
    kept = [world.keep(key()) for _ in range(MOST_PER_KEY + 1)]

    assert len(world.idle) == MOST_PER_KEY
    assert not kept[-1].is_open


def test_a_connection_that_nobody_uses_ends_after_a_time(world: World) -> None:
    kept, was_open = world.keep(key()), list[bool]()

    for seconds in (IDLE_SECONDS - 1, 1 + LOOK_AFTER):
        world.pass_time(seconds)
        was_open.append(kept.is_open)

    assert was_open == [True, False]
    assert len(world.idle) == 0


def test_a_connection_that_its_server_closed_is_noticed_without_a_request(world: World) -> None:
    closed, open_still = world.keep(key("a.example")), world.keep(key("b.example"))
    world.servers[closed].close()

    world.pass_time(LOOK_AFTER)

    assert (closed.is_open, open_still.is_open) == (False, True)


def test_a_connection_that_its_server_closed_is_not_taken(world: World) -> None:
    usable, closed = world.keep(key()), world.keep(key())
    world.servers[closed].close()

    assert world.idle.take(key()) is usable
    assert not closed.is_open


def test_they_are_looked_at_once_at_a_time_and_only_while_there_are_any(world: World) -> None:
    kept = world.keep(key())
    for _ in range(100):
        assert world.idle.take(key()) is kept
        world.idle.keep(key(), kept)
    assert len(world.calls) == 1

    assert world.idle.take(key()) is kept
    world.pass_time(LOOK_AFTER)
    assert world.calls == []

    world.idle.keep(key(), kept)
    assert len(world.calls) == 1


def test_all_of_them_can_be_closed_and_none_is_kept_at_the_end(world: World) -> None:
    first = world.keep(key())

    assert world.idle.close_all() == 1
    assert world.idle.close_all() == 0
    second = world.keep(key())
    world.idle.close()
    third = world.keep(key())

    assert not any(each.is_open for each in (first, second, third))
