"""Says where the tasks and threads of this process stand, without any value that they work with.

A task is asked for on the event loop's thread, since what it awaits may change meanwhile. An event loop that
stands still answers nothing; its thread shows where.
"""

import asyncio
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType

MOST_TASKS = 500
MOST_THREADS = 200
MOST_FRAMES = 40
"""Maximum number of frames of one task or thread: the innermost ones."""


def tasks_text(loop: asyncio.AbstractEventLoop) -> str:
    """Describe the tasks of an event loop, by name; to be called on its thread."""
    tasks = sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name)
    parts = [f"{len(tasks)} tasks"]
    for task in tasks[:MOST_TASKS]:
        frames = [*_awaited(task.get_coro())]
        parts.append("\n".join([f"task {task.get_name()}:", *_innermost(frames)]))
    return _joined(parts, left_out=len(tasks) - MOST_TASKS)


def threads_text() -> str:
    """Describe the threads of this process, by name; may be called from any thread."""
    frames = sys._current_frames()  # noqa: SLF001 - documented, for this purpose
    threads = sorted((each for each in threading.enumerate()), key=lambda each: each.name)
    parts = [f"{len(threads)} threads"]
    for thread in threads[:MOST_THREADS]:
        frame = frames.get(thread.ident or 0)
        stack = [] if frame is None else [*_callers(frame)][::-1]
        parts.append("\n".join([f"thread {thread.name}:", *_innermost(stack)]))
    return _joined(parts, left_out=len(threads) - MOST_THREADS)


def _joined(parts: list[str], *, left_out: int) -> str:
    if left_out > 0:
        parts.append(f"{left_out} more are left out")
    return "\n\n".join(parts)


def _awaited(awaitable: object) -> Iterator[str]:
    """Name where a coroutine stands, then where what it awaits stands, and at last what that waits for."""
    while awaitable is not None:
        match awaitable:
            case CoroutineType():
                frame, code, inner = awaitable.cr_frame, awaitable.cr_code, awaitable.cr_await
            case AsyncGeneratorType():
                frame, code, inner = awaitable.ag_frame, awaitable.ag_code, awaitable.ag_await
            case GeneratorType():
                frame, code, inner = awaitable.gi_frame, awaitable.gi_code, awaitable.gi_yieldfrom
            case _:
                yield f"waits for {type(awaitable).__qualname__}"
                return
        yield _place(code, code.co_firstlineno if frame is None else frame.f_lineno)
        awaitable = inner


def _callers(frame: FrameType | None) -> Iterator[str]:
    """Name where a frame stands, then where its callers stand."""
    while frame is not None:
        yield _place(frame.f_code, frame.f_lineno)
        frame = frame.f_back


def _place(code: CodeType, line: int) -> str:
    return f"{'/'.join(PurePath(code.co_filename).parts[-3:])}:{line} {code.co_qualname}"


def _innermost(frames: Iterable[str]) -> Iterator[str]:
    known = list(frames)
    if len(known) > MOST_FRAMES:
        yield f"  {len(known) - MOST_FRAMES} outer frames are left out"
    for frame in known[-MOST_FRAMES:]:
        yield f"  {frame}"
