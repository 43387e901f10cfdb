"""Connects to PostgreSQL with a limit for each answer, for a server that stands still with its network up."""

from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

T = TypeVar("T")

_LOOK_EACH = 0.1  # seconds


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when an answer takes too long.

    Attributes:
        answer_within: Seconds for each answer.
    """

    answer_within = 60.0
    _is_given_up = False

    def give_up(self) -> None:
        """Wait for no further answer; a wait in another thread ends within a moment."""
        self._is_given_up = True

    def wait(self, gen: PQGen[T], interval: float = _LOOK_EACH, timeout: float | None = None) -> T:
        """Wait for an answer.

        Raises:
            psycopg.OperationalError: It did not come in time, the connection is lost, or the server says so.
        """
        try:
            limit = self.answer_within if timeout is None else timeout
            return super().wait(self._until_given_up(gen), interval, limit)
        except psycopg.OperationalError as error:
            if (
                error.sqlstate is not None or self.closed
            ):  # the server has answered, or the connection is lost
                raise
            self.close()
            raise psycopg.OperationalError(f"no answer within {self.answer_within:.0f} s: {error}") from error

    def _until_given_up(self, gen: PQGen[T]) -> Generator[Any, Any, T]:
        """Go on as the driver does, which comes by at an interval also without an answer."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if self._is_given_up:
                    gen.close()
                    raise psycopg.OperationalError("the server does not answer on other connections either")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result
