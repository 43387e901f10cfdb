"""What is unwell, since when, and how long it takes until it counts."""

import asyncio

import pytest

from controller.config_file import ConfigError
from controller.config_reloads import ConfigReloads
from controller.loop_lag import SLOT, SLOTS, TICK, LoopLag
from controller.metrics import Metrics
from controller.metrics.instance import SelfCheck
from controller.self_checks import INTERVAL, LONGEST_LAG, SelfChecks, Unwell


class Clock:
    """Time that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """Checks of things that tests make unwell."""

    def __init__(self) -> None:
        self.clock, self.metrics = Clock(), Metrics()
        self.lag = LoopLag(self.clock)
        self.checks = SelfChecks(self.metrics.instance, self.lag, self.clock)
        self.said = ""
        self.checks.add(SelfCheck.BBS, lambda: self.said, after=30.0)
        self.checks.add(SelfCheck.CELLS, lambda: "")

    def metric(self, check: SelfCheck) -> float | None:
        return self.metrics.registry.get_sample_value("docker_cache_unwell", {"check": check})


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_is_wrong_for_long_enough_is_unwell_since_it_began(scene: Scene) -> None:
    scene.said = "its events are not followed"
    for seconds in (0.0, 29.0):
        scene.clock.now = 1000.0 + seconds
        scene.checks.look()
        assert scene.checks.unwell == ()
    scene.clock.now = 1030.0
    scene.checks.look()

    assert scene.checks.unwell == (Unwell(SelfCheck.BBS, 1000.0, "its events are not followed"),)
    assert scene.metric(SelfCheck.BBS) == 1
    assert scene.metric(SelfCheck.CELLS) == 0


def test_what_was_well_in_between_begins_anew(scene: Scene) -> None:
    scene.said = "its events are not followed"
    scene.checks.look()
    scene.said = ""
    scene.clock.now += 20.0
    scene.checks.look()
    scene.said = "it was last listed 400 s ago"
    scene.clock.now += 20.0
    scene.checks.look()

    assert scene.checks.unwell == ()
    assert scene.metric(SelfCheck.BBS) == 0


def test_what_nobody_can_be_asked_about_is_told(scene: Scene) -> None:
    scene.checks.report_problem(SelfCheck.DATABASE, "it does not answer")
    scene.checks.look()
    scene.clock.now += 60.0
    scene.checks.report_problem(SelfCheck.DATABASE, "it refuses the login")
    scene.checks.look()

    assert list(scene.checks.unwell) == [Unwell(SelfCheck.DATABASE, 1000.0, "it refuses the login")]

    scene.checks.report_problem(SelfCheck.DATABASE, "")
    scene.checks.look()

    assert not scene.checks.unwell


@pytest.mark.looptime
async def test_everything_is_looked_at_at_an_interval(scene: Scene) -> None:
    with scene.checks.looking():
        scene.checks.add(SelfCheck.COPIES, lambda: "1 of them is incomplete")
        assert not scene.checks.unwell
        await asyncio.sleep(INTERVAL)
        assert [each.check for each in list(scene.checks.unwell)] == [SelfCheck.COPIES]


@pytest.mark.looptime
async def test_a_loop_that_stands_still_is_seen_while_it_does_and_a_minute_after(scene: Scene) -> None:
    """Scrapes and health checks are answered by other threads."""
    with scene.lag.measuring():
        assert scene.lag.seconds() == 0.0
        scene.clock.now += TICK + LONGEST_LAG + 1.0  # before the loop gets to look at the clock

        assert scene.lag.seconds() == LONGEST_LAG + 1.0
        (found,) = scene.checks.unwell
        assert (found.check, found.reason) == (
            SelfCheck.EVENT_LOOP,
            "the event loop did nothing else for 6.0 s within the last minute",
        )
        await asyncio.sleep(TICK)
        assert scene.lag.seconds() == LONGEST_LAG + 1.0, "it is remembered"

        for _ in range(int(SLOT * (SLOTS + 1) / TICK)):
            scene.clock.now += TICK
            await asyncio.sleep(TICK)

        assert scene.lag.seconds() == 0.0
        assert scene.checks.unwell == ()


@pytest.mark.looptime
async def test_a_loop_that_comes_in_time_has_no_lag() -> None:
    loop = asyncio.get_running_loop()
    lag = LoopLag(loop.time)
    with lag.measuring():
        await asyncio.sleep(30.0)
        assert lag.seconds() == pytest.approx(0.0, abs=1e-6)
    assert lag.seconds() == pytest.approx(0.0, abs=1e-6)


def test_a_config_that_is_refused_is_remembered_until_one_is_taken() -> None:
    problems = [ConfigError("max_copies: must be greater than 0")]

    def read() -> None:
        if problems:
            raise problems[0]

    reloads, metrics = ConfigReloads(read, Clock()), Metrics()
    metrics.instance.show_reloads(reloads)

    def successful() -> float | None:
        return metrics.registry.get_sample_value("docker_cache_config_last_reload_successful")

    assert (reloads.error, successful()) == ("", 1)
    with pytest.raises(ConfigError):
        reloads.read()
    assert (reloads.error, successful()) == ("max_copies: must be greater than 0", 0)

    problems.clear()
    reloads.read()

    assert (reloads.error, successful()) == ("", 1)
    name = "docker_cache_config_last_reload_success_timestamp_seconds"
    assert metrics.registry.get_sample_value(name) == 1000.0
