"""Shows text on a terminal that changes in its place until the command ends."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text


class LiveText:
    """Lines on a terminal that are replaced by the next ones; what does not fit is not shown."""

    def __init__(self, first: str) -> None:
        self._live = Live(Text(first), console=Console(highlight=False), auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, lines: Sequence[str]) -> None:
        """Replace the lines."""
        text = Text.from_ansi("\n".join(lines), no_wrap=True, overflow="ellipsis")
        self._live.update(text, refresh=True)
