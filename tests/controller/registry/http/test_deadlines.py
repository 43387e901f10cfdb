"""What the thread that watches all exchanges does when a time is up."""

import socket
import threading
import weakref
from collections.abc import Iterator

import pytest

from controller.registry.http.deadlines import DeadlineTimer

WAIT = 60.0


@pytest.fixture
def timer() -> Iterator[DeadlineTimer]:
    made = DeadlineTimer()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(WAIT)
        yield ours, theirs


def test_a_socket_is_shut_down_when_its_deadline_has_passed(
    timer: DeadlineTimer, pair: tuple[socket.socket, socket.socket]
) -> None:
    deadline = timer.start(pair[0], 0.0)

    assert pair[0].recv(1) == b""
    assert deadline.has_passed


def test_a_socket_whose_deadline_was_cancelled_is_left_alone(
    timer: DeadlineTimer, pair: tuple[socket.socket, socket.socket]
) -> None:
    deadline, is_later = timer.start(pair[0], 0.1), threading.Event()
    timer.cancel(deadline)
    timer.call_after(0.2, is_later.set)
    assert is_later.wait(WAIT)

    pair[1].sendall(b"x")

    assert pair[0].recv(1) == b"x"
    assert not deadline.has_passed


def test_a_deadline_that_was_cancelled_is_forgotten_although_a_call_is_due_before_it(
    timer: DeadlineTimer, pair: tuple[socket.socket, socket.socket]
) -> None:
    timer.call_after(WAIT / 2, threading.Event().set)
    deadline = timer.start(pair[0], WAIT)
    reference = weakref.ref(deadline)

    timer.cancel(deadline)
    del deadline

    assert reference() is None


def test_functions_are_called_in_the_order_of_their_times_and_may_ask_for_another_call(
    timer: DeadlineTimer, pair: tuple[socket.socket, socket.socket]
) -> None:
    calls, is_over = list[str](), threading.Event()

    def first() -> None:
        calls.append("first")
        timer.call_after(0.2, last)

    def last() -> None:
        calls.append("last")
        is_over.set()

    timer.call_after(0.1, lambda: calls.append("second"))
    timer.call_after(0.0, first)
    timer.start(pair[0], 0.15)
    assert is_over.wait(WAIT)

    assert calls == ["first", "second", "last"]
    assert pair[0].recv(1) == b""


def test_nothing_is_called_after_the_end(timer: DeadlineTimer) -> None:
    calls, other = list[str](), threading.Event()
    timer.call_after(0.05, lambda: calls.append("late"))
    timer.close()
    second = DeadlineTimer()
    second.call_after(0.15, other.set)
    assert other.wait(WAIT)
    second.close()

    assert calls == []
