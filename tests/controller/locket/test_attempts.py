"""One call that is made several times: what ends it, and when further attempts begin. In virtual time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from controller.locket.attempts import until_answered
from reconcile.errors import Conflict, Unavailable

pytestmark = pytest.mark.looptime

LIMIT = 4.5


def broken(number: int) -> Unavailable:
    return Unavailable("locket", "connection", f"attempt {number}")


def late() -> Unavailable:
    return Unavailable("locket", "no-answer", "nobody")


class Attempts:
    """Attempts that do what is said, and when each of them began.

    Args:
        ways: Of each attempt in its turn; the last one goes for all further ones.
    """

    def __init__(self, *ways: Callable[[int], Awaitable[str]]) -> None:
        self._ways = ways
        self.begun: list[float] = []
        self.cancelled = 0

    async def __call__(self) -> str:
        number = len(self.begun)
        self.begun.append(asyncio.get_running_loop().time())
        try:
            return await self._ways[min(number, len(self._ways) - 1)](number)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def make(self) -> str:
        return await until_answered(self, limit=LIMIT, patience=LIMIT / 2, late=late)


async def answers(number: int) -> str:
    return f"answer {number}"


async def breaks(number: int) -> str:
    raise broken(number)


async def is_refused(number: int) -> str:
    raise Conflict("locket", "lock-held", f"attempt {number}")


async def hangs(number: int) -> str:
    await asyncio.Event().wait()
    raise AssertionError


async def takes_three_seconds(number: int) -> str:
    await asyncio.sleep(3.0)
    return f"answer {number}"


async def test_an_answer_ends_it() -> None:
    attempts = Attempts(answers)

    assert await attempts.make() == "answer 0"
    assert attempts.begun == [0.0]


async def test_a_refusal_is_an_answer() -> None:
    attempts = Attempts(is_refused)

    with pytest.raises(Conflict, match="attempt 0"):
        await attempts.make()
    assert attempts.begun == [0.0]


async def test_a_lost_connection_is_followed_by_another_attempt() -> None:
    attempts = Attempts(breaks, breaks, answers)

    assert await attempts.make() == "answer 2"
    assert attempts.begun == pytest.approx([0.0, 0.25, 0.75])


async def test_the_last_failure_is_told_when_all_attempts_fail() -> None:
    attempts = Attempts(breaks)

    with pytest.raises(Unavailable, match="attempt 5"):
        await attempts.make()
    assert attempts.begun == pytest.approx([0.0, 0.25, 0.75, 1.75, 2.75, 3.75])


async def test_a_silent_server_gets_company_and_not_all_of_the_time() -> None:
    attempts = Attempts(hangs, answers)

    assert await attempts.make() == "answer 1"
    assert attempts.begun == pytest.approx([0.0, LIMIT / 2])
    assert attempts.cancelled == 1


async def test_a_slow_answer_still_counts_when_the_attempt_beside_it_is_silent() -> None:
    """A database that takes three seconds must not cost the lock."""
    attempts = Attempts(takes_three_seconds, hangs)

    assert await attempts.make() == "answer 0"
    assert asyncio.get_running_loop().time() == pytest.approx(3.0)


async def test_silence_ends_with_the_limit() -> None:
    attempts = Attempts(hangs)

    with pytest.raises(Unavailable, match="nobody"):
        await attempts.make()
    assert asyncio.get_running_loop().time() == pytest.approx(LIMIT)
    assert attempts.cancelled == len(attempts.begun)


async def test_a_cancelled_call_leaves_no_attempt_behind() -> None:
    attempts = Attempts(hangs)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await attempts.make()
    assert attempts.cancelled == 1


async def test_a_mistake_of_ours_is_no_failed_attempt() -> None:
    async def is_wrong(number: int) -> str:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        await Attempts(is_wrong).make()
