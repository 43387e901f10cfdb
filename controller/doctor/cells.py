"""Asks every cell to pull an image from the private registry, by an LRP that is removed again.

It starts instances, so nobody runs it unasked.
"""

import re
from collections.abc import Iterable
from functools import partial

from controller.canary import Prober
from controller.config import Config
from controller.doctor.bbs import bbs_advice, open_client
from controller.doctor.diagnosis import Check
from controller.doctor.droplet_pulls import finding_of_cells, logins_of_droplets
from controller.doctor.findings import Finding, Findings, ok, problem, warning
from controller.wiring import open_canary_images, pull_credentials
from reconcile.canary import cells_for
from reconcile.errors import DockerCacheError
from reconcile.lrps import Cell
from reconcile.pull_proof import CanaryKind, CanaryResult
from reconcile.start_failures import Blame, StartFailure

CELLS_PULL = "cells-pull"

MOST_SECONDS = 60.0
"""Seconds within which each cell must answer."""

WHOLE_LIMIT = 600.0
"""Seconds in which all segments must have answered, one after another, and the last canary be removed."""

_ADVICE: tuple[tuple[str, str], ...] = (
    ("no such host", "let the cells' DNS resolve the host of cache_registry.address"),
    (
        "server gave HTTP response|This registry is insecure|x509|certificate",
        "let cells trust its certificate, or name it in the cells' grootfs.insecure_docker_registry_list",
    ),
    (
        "authentication required|unauthorized|denied|invalid username",
        "check cache_pull_username and cache_pull_password_file: cells log in with them",
    ),
    ("too ?many ?requests", "let the registry allow cells more requests"),
    (
        "connection refused|i/o timeout|dial |no route to host|deadline exceeded",
        "let cells reach cache_registry.address: check the firewall between them, and the port",
    ),
    (
        "unknown",
        "check that cache_registry.address leads cells to the same registry as this machine",
    ),
    ("HTTP status|unavailable|server error", "look into the log of the registry: it failed"),
)
_OTHER_ADVICE = "look into the log of the cell's garden"
_SILENCE_ADVICE = (
    "check whether the registry answers cells, and whether the cell's rep and garden work: a cell that "
    "waits for a registry reports nothing"
)
_NO_ROOM_ADVICE = "free memory or disk on these cells, or ignore it: apps find no room on them either"


def cells_check(config: Config) -> Check:
    """Make the check."""
    return Check(CELLS_PULL, "the cells", partial(check_cells_pull, config), limit=WHOLE_LIMIT)


async def check_cells_pull(config: Config) -> Findings:
    """Ask every cell that runs Docker apps, those of isolation segments included, and yield each answer."""
    images = open_canary_images(config)
    if images is None:
        text = f"no image that asks cells can be made for {config.platforms}"
        yield warning(CELLS_PULL, text, "push an app, and see whether it starts from its copy")
        return
    try:
        async with open_client(config) as bbs:
            cells = await bbs.list_cells()
            limit = min(config.canary_timeout, MOST_SECONDS)
            prober = Prober(bbs, images, credentials=pull_credentials(config), time_limit=limit)
            for tags in placement_tags_of(cells):
                result = await prober.run(CanaryKind.EVERY_CELL, tags)
                for finding in findings_of(result, cells_for(cells, tags), config.cache_registry.address):
                    yield finding
                if result.pulled and not result.failures:
                    for login in logins_of_droplets(config):
                        result = await prober.run(CanaryKind.EVERY_CELL, tags, login)
                        yield finding_of_cells(result, login, config.cache_registry.address)
    except DockerCacheError as error:
        yield problem(CELLS_PULL, str(error), bbs_advice(error))
    finally:
        await images.close()


def placement_tags_of(cells: Iterable[Cell]) -> tuple[frozenset[str], ...]:
    """List the sets of placement tags that reach all cells that run Docker apps; shared cells first."""
    sets = {cell.placement_tags for cell in cells if cell.runs_docker(cell.placement_tags)}
    return tuple(sorted(sets, key=sorted))


def findings_of(result: CanaryResult, cells: Iterable[Cell], registry: str) -> list[Finding]:
    """Report the answer of each cell."""
    answers = {answer.cell_id: answer for answer in result.answers}
    found, silent = list[Finding](), list[str]()
    for cell in cells:
        name = f"cell {cell.cell_id}{f' in zone {cell.zone}' if cell.zone else ''}"
        answer = answers.get(cell.cell_id)
        if answer is None:
            silent.append(name)
        elif answer.failure is None:
            found.append(ok(CELLS_PULL, f"{name} pulled from {registry}"))
        else:
            text = f"{name} cannot pull from {registry}: {answer.failure.detail}"
            found.append(problem(CELLS_PULL, text, advice_for(answer.failure)))
    if silent and result.is_silent:
        found.append(problem(CELLS_PULL, f"{', '.join(silent)}: {result.problem}", _SILENCE_ADVICE))
    elif silent or result.problem:
        subject = f"{', '.join(silent)} not asked" if silent else "cells not asked"
        text = f"{subject}: {result.problem}" if result.problem else subject
        advice = _NO_ROOM_ADVICE if result.answers else "follow this message, and run this again"
        found.append(warning(CELLS_PULL, text, advice))
    return found


def advice_for(failure: StartFailure) -> str:
    """Say what to do about a cell that cannot pull."""
    if failure.blame is Blame.IMAGE:
        return _OTHER_ADVICE
    for signs, advice in _ADVICE:
        if re.search(signs, failure.detail, re.IGNORECASE):
            return advice
    return _OTHER_ADVICE
