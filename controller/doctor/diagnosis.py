"""Runs all checks concurrently, each with a time limit, and yields their findings in a fixed order.

Every failure of another system becomes a finding. Any other error is a bug of this program.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from controller.config import Config
from controller.doctor.addresses import CELLS_VIEW, check_cells_view
from controller.doctor.admin import ADMIN, check_admin
from controller.doctor.bbs import BBS, EVENTS, check_bbs, check_events
from controller.doctor.certificates import CERTIFICATES, check_certificates
from controller.doctor.clock import CLOCK, check_clock
from controller.doctor.cloud_controller import API, check_cloud_controller
from controller.doctor.database import check_database
from controller.doctor.database_server import DATABASE
from controller.doctor.files import FILES, check_files
from controller.doctor.findings import Finding, Findings, Level, finding_of, without_login
from controller.doctor.local import CONFIG, DOCKER, check_config, check_docker
from controller.doctor.locket import LOCKET, check_locket
from controller.doctor.loggregator import LOGGREGATOR, check_loggregator
from controller.doctor.registries import (
    CACHE_REGISTRY,
    SOURCES,
    check_cache_registry,
    check_source,
    sources_of,
)
from controller.store.location import name_of
from reconcile.errors import DockerCacheError

LIMIT = 10.0
"""Seconds that one check may take."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check, which has not started yet.

    Attributes:
        name: Name of the check, which its findings carry as `check`.
        subject: What is checked, as the finding names it when the check fails or takes too long.
        run: Starts the check.
        level: Level of the finding when the check fails or takes too long.
        limit: Seconds that the check may take.
    """

    name: str
    subject: str
    run: Callable[[], Findings]
    level: Level = Level.PROBLEM
    limit: float = LIMIT


async def diagnose(config: Config, *, extra: tuple[Check, ...] = ()) -> Findings:
    """Check everything that the daemon needs, and yield each finding as soon as those before it are known.

    A caller that stops early should close the generator, which cancels the checks that still run.
    """
    try:
        async with asyncio.TaskGroup() as running:
            tasks = [
                running.create_task(run_check(check), name=f"doctor-{check.name}")
                for check in (*checks_of(config), *extra)
            ]
            for task in tasks:
                for finding in await task:
                    yield finding
    except* GeneratorExit:
        pass  # the task group wraps it, and a generator must either end or raise it unwrapped


def checks_of(config: Config) -> tuple[Check, ...]:
    """List the checks in the order of their findings."""
    cache = config.cache_registry.address
    return (
        Check(CONFIG, "the config", partial(check_config, config)),
        Check(CERTIFICATES, "the certificate files", partial(check_certificates, config)),
        Check(BBS, config.bbs_address, partial(check_bbs, config)),
        Check(EVENTS, config.bbs_address, partial(check_events, config)),
        Check(LOCKET, f"{config.locket_address}", partial(check_locket, config)),
        Check(API, f"{config.cloud_controller_api_url}", partial(check_cloud_controller, config)),
        Check(CACHE_REGISTRY, cache, partial(check_cache_registry, config)),
        Check(CELLS_VIEW, f"the name of {cache}", partial(check_cells_view, config), Level.WARNING),
        *(
            Check(
                SOURCES,
                without_login(registry.address),
                partial(check_source, config, registry, level),
                level,
            )
            for registry, level in sources_of(config)
        ),
        Check(LOGGREGATOR, config.loggregator.address, partial(check_loggregator, config), Level.WARNING),
        Check(DOCKER, f"docker at {config.docker_socket}", partial(check_docker, config)),
        Check(DATABASE, name_of(config.database_url), partial(check_database, config)),
        Check(FILES, "the files with secrets", partial(check_files, config), Level.WARNING),
        Check(CLOCK, "the clocks", partial(check_clock, config), Level.WARNING),
        Check(ADMIN, f"{config.admin_address}", partial(check_admin, config), Level.WARNING),
    )


async def run_check(check: Check) -> list[Finding]:
    """Run one check within its limit; what it has found before a failure or the limit is returned too."""
    found: list[Finding] = []

    def give_up(text: str, advice: str) -> None:
        found.append(finding_of(check.name, check.level, f"{check.subject}: {text}", advice))

    try:
        async with asyncio.timeout(check.limit), aclosing(check.run()) as findings:
            async for finding in findings:
                found.append(finding)  # noqa: PERF401 - findings from before a timeout are kept
    except TimeoutError:
        advice = "check that it is reachable from this machine and not overloaded"
        give_up(f"no answer within {check.limit:g} s", advice)
    except DockerCacheError as error:
        give_up(str(error), "follow this message")
    except OSError as error:
        give_up(str(error), "give this user read and write access")
    return found
