"""What the simulated agent makes of envelopes, and how lines are shown."""

import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.loggregator import envelope_pb2 as pb
from tests.simulators.certificates import make_certificates
from tests.simulators.loggregator import Agent, cf_logs, cf_push, serve_agent

pytestmark = pytest.mark.usefixtures("servers")


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with serve_agent(make_certificates(tmp_path)) as agent:
        yield agent


async def test_it_fills_tags_in_as_the_real_one_does(agent: Agent) -> None:
    old = {"origin": pb.Value(text="old"), "count": pb.Value(integer=3)}
    await agent.take([pb.Envelope(deprecated_tags=old, tags={"job": "mine"})])
    (envelope,) = agent.envelopes

    assert envelope.source_id == "old"
    assert dict(envelope.tags) == {
        "origin": "old",
        "count": "3",
        "job": "mine",
        "deployment": "cf",
        "index": "3a1f9d2c",
        "ip": "10.0.0.9",
    }


async def test_it_adds_up_what_has_no_total(agent: Agent) -> None:
    counters = [pb.Counter(name="C", delta=2), pb.Counter(name="C", total=10), pb.Counter(name="C", delta=1)]
    await agent.take([pb.Envelope(source_id="us", counter=each) for each in counters])

    assert [each.counter.total for each in agent.envelopes] == [2, 10, 11]
    assert agent.totals("us") == {"C": 11}


def test_lines_are_shown_in_the_order_of_their_times() -> None:
    def envelope(at: int, kind: str, text: str, *, is_error: bool = False) -> pb.Envelope:
        stream = pb.Log.ERR if is_error else pb.Log.OUT
        log = pb.Log(payload=text.encode(), type=stream)
        return pb.Envelope(timestamp=at * 10**9, instance_id="0", tags={"source_type": kind}, log=log)

    lines = [envelope(2, "CELL", "two\nmore", is_error=True), envelope(1, "STG", "one")]

    assert list(cf_logs(lines)) == [
        "   1970-01-01T00:00:01.00+0000 [STG/0] OUT one",
        "   1970-01-01T00:00:02.00+0000 [CELL/0] ERR two",
        "   1970-01-01T00:00:02.00+0000 [CELL/0] ERR more",
    ]
    assert list(cf_push(lines)) == ["   one"]


async def test_it_runs_alone() -> None:
    program = await create_subprocess_exec(
        sys.executable,
        *("-m", "tests.simulators.loggregator"),
        stdout=PIPE,
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert program.stdout is not None
    ready = json.loads(await program.stdout.readline())
    program.send_signal(signal.SIGTERM)

    assert await program.wait() == 0
    assert {"port", "ca", "certificate", "key"} == set(ready)
