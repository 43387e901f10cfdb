"""Keeps a value that is made of files, such as a TLS context or a password, up to date with the files.

Files are replaced one after the other, so that a certificate may be there before its key. Until a new value
can be made of them the old one stays, and the log says so once.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from reconcile.errors import DockerCacheError

CHECK_EVERY = 1.0
"""Seconds between two looks at the files at least."""

T = TypeVar("T")
_Stamp = tuple[tuple[int, int, int] | None, ...]


class FileValue(Generic[T]):
    """A value that is made of files, and made anew when they have changed; safe to use from many threads.

    Args:
        files: What it is made of.
        make: Makes it, and raises `DockerCacheError`, `OSError` or `ValueError`, without any secret in its
            text, when the files do not allow it.
        clock: Monotonic time in seconds.

    Raises:
        DockerCacheError, OSError, ValueError: What `make` raises the first time.
    """

    def __init__(
        self, files: tuple[Path, ...], make: Callable[[], T], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._files, self._make, self._clock = files, make, clock
        self._lock = threading.Lock()
        self._stamp, self._checked_at = _stamp_of(files), clock()
        self._is_old = False
        self._value = make()

    @property
    def known(self) -> T:
        """The value as it was last made; the files are not looked at."""
        return self._value

    async def follow(self) -> T:
        """Return the value as `current` does, and look at the files in a thread."""
        return await asyncio.to_thread(self.current) if self._is_due(self._clock()) else self._value

    def _is_due(self, now: float) -> bool:
        return bool(self._files) and now - self._checked_at >= CHECK_EVERY

    def current(self) -> T:
        """Return the value, made anew if the files have changed and it can be made of them; may block."""
        with self._lock:
            now = self._clock()
            if not self._is_due(now):
                return self._value
            self._checked_at = now
            stamp = _stamp_of(self._files)  # before the files are read: what changes meanwhile is seen next
            if stamp != self._stamp:
                self._stamp = stamp
                self._renew()
            return self._value

    def _renew(self) -> None:
        # Imported where files have changed: commands that end at once have no log.
        import structlog  # noqa: PLC0415

        log = structlog.get_logger(scope="files")
        names = ", ".join(map(str, self._files))
        try:
            self._value = self._make()
        except (DockerCacheError, OSError, ValueError) as error:
            if not self._is_old:
                log.error("failed-to-read-changed-files", files=names, error=str(error))  # noqa: TRY400 - see text
            self._is_old = True
        else:
            self._is_old = False
            log.info("read-changed-files", files=names)


def _stamp_of(files: tuple[Path, ...]) -> _Stamp:
    return tuple(map(_stat_of, files))


def _stat_of(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
