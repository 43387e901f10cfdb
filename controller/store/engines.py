"""Keeps the engines of one database, and the connections of a server on which waits can be ended at once."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Engine


class OpenConnections:
    """The connections to a server on which nothing is asked that takes long."""

    def __init__(self) -> None:
        self._ends = WeakKeyDictionary[Any, Callable[[Any], None]]()
        self._changing = Lock()

    def add(self, connection: Any, end: Callable[[Any], None]) -> None:
        """Keep a driver's connection as long as it lives, with what ends a wait on it in another thread."""
        with self._changing:
            self._ends[connection] = end

    def break_off(self) -> None:
        """End all waits for answers: what waits fails, and later work gets new connections."""
        with self._changing:
            found = list(self._ends.items())
        for connection, end in found:
            end(connection)


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines that make the connections of one database.

    Attributes:
        connections: Those that read and write.
    """

    reading: Engine
    writing: Engine
    migrating: Engine
    connections: OpenConnections
