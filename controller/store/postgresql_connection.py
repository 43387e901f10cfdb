"""Connects to PostgreSQL with a limit for each answer, for a server that stands still with its network up."""

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

    def wait(self, gen: PQGen[T], interval: float = _LOOK_EACH, timeout: float | None = None) -> T:
        """Wait for an answer.

        Raises:
            psycopg.OperationalError: It did not come in time, the connection is lost, or the server says so.
        """
        try:
            return super().wait(gen, interval, self.answer_within if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if (
                error.sqlstate is not None or self.closed
            ):  # the server has answered, or the connection is lost
                raise
            self.close()
            raise psycopg.OperationalError(f"no answer within {self.answer_within:.0f} s: {error}") from error
