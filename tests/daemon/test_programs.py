"""A forked run of the program is like one by an interpreter of its own."""

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest

from tests.daemon.environment import open_environment
from tests.daemon.programs import Starter, output_of, start_forked, start_interpreter


@pytest.mark.parametrize(
    "arguments", [["config", "example"], ["--version"], ["stauts"], ["run", "--config", "/none.json"]]
)
async def test_both_write_and_end_alike(arguments: list[str]) -> None:
    forked = await output_of(await start_forked(*arguments))
    started = await output_of(await start_interpreter(*arguments))

    assert forked == started


async def test_what_goes_beside_the_output_may_go_into_it() -> None:
    program = await start_forked("stauts", err=subprocess.STDOUT)
    assert program.stdout is not None

    out, status = await asyncio.gather(program.stdout.read(), program.wait())

    assert (status, b"No such command 'stauts'" in out, program.stderr) == (3, True, None)


@pytest.mark.parametrize("start", [start_forked, start_interpreter])
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)]
)
async def test_a_signal_ends_it(tmp_path: Path, start: Starter, number: signal.Signals, status: int) -> None:
    async with open_environment(tmp_path, start=start) as env:
        daemon = await env.started_daemon()
        program = daemon._program
        assert program.returncode is None
        program.send_signal(number)

        assert await daemon.ended() == status
        assert program.returncode == status
