import asyncio
import os
import signal

import pytest

from controller.signals import EarlySignals, ReloadRequested, StopRequested


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
async def test_what_waits_for_the_lock_ends_at_once(number: signal.Signals) -> None:
    """A standby has no migration that a drain would wait for."""
    early = EarlySignals(lambda: None)

    async def wait_for_lock() -> None:
        early.listen()
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(wait_for_lock())

    assert isinstance(early.request, StopRequested)
    assert not isinstance(early.request, ReloadRequested)
