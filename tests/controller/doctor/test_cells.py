"""What the doctor says of each cell's answer; that cells are really asked is tested in tests/daemon."""

import pytest

from controller.doctor.cells import advice_for, findings_of, placement_tags_of
from controller.doctor.droplet_pulls import finding_of_cells
from controller.doctor.findings import Level
from reconcile.lrps import Cell
from reconcile.pull_proof import CanaryKind, CanaryLogin, CanaryResult, CellAnswer
from reconcile.start_failures import start_failure

REGISTRY = "cache.example:8080"
PLUGIN = "failed to create container: running image plugin create: "
SOURCE = f"{PLUGIN}fetching image reference: creating image: creating image source: "
SAID = {
    f'{SOURCE}pinging container registry H: Get "https://H/v2/": dial tcp: lookup H on 10.0.0.1:53: no such host': (
        "DNS"
    ),
    f'{SOURCE}pinging container registry H: Get "https://H/v2/": dial tcp H: connect: connection refused': "firewall",
    f'{SOURCE}pinging container registry H: Get "https://H/v2/": http: server gave HTTP response to HTTPS client': (
        "insecure_docker_registry_list"
    ),
    f"{PLUGIN}This registry is insecure. To pull images from this registry, please use the --insecure-registry "
    "option.": "trust its certificate",
    f"{SOURCE}reading manifest latest in H/t/x: authentication required": "cache_pull_username",
    f"{SOURCE}reading manifest latest in H/t/x: denied: no": "cache_pull_username",
    f"{SOURCE}reading manifest latest in H/t/x: toomanyrequests: slow down": "more requests",
    f"{SOURCE}reading manifest latest in H/t/x: received unexpected HTTP status: 500 Internal Server Error": (
        "log of the registry"
    ),
    f"{SOURCE}reading manifest latest in H/t/x: manifest unknown": "same registry",
    f"{PLUGIN}pulling the image: layers exceed disk quota 3147046/1048576 bytes": "log of the cell",
}


@pytest.mark.parametrize("text", SAID)
def test_what_cells_say_has_an_advice_of_its_own(text: str) -> None:
    failure = start_failure(f"{text}\n: exit status 1")
    assert failure is not None
    assert SAID[text] in advice_for(failure)


def cell(name: str, *tags: str, zone: str = "z1", schemes: tuple[str, ...] = ("docker",)) -> Cell:
    return Cell(name, zone, schemes, frozenset(tags))


def test_each_isolation_segment_with_cells_for_docker_is_asked_once() -> None:
    cells = [cell("a"), cell("b"), cell("c", "segment"), cell("d", "other", schemes=("preloaded",))]
    assert placement_tags_of(cells) == (frozenset(), frozenset({"segment"}))


def test_each_cell_has_a_finding() -> None:
    refused = start_failure(next(text for text in SAID if "refused" in text))
    result = CanaryResult(
        CanaryKind.EVERY_CELL, (CellAnswer("a"), CellAnswer("b", refused)), "no answer from c"
    )

    well, ill, unasked = findings_of(result, [cell("a"), cell("b", zone=""), cell("c")], REGISTRY)

    assert (well.level, well.text) == (Level.OK, f"cell a in zone z1 pulled from {REGISTRY}")
    assert (ill.level, ill.text[:40]) == (Level.PROBLEM, f"cell b cannot pull from {REGISTRY}: "[:40])
    assert (unasked.level, unasked.text) == (
        Level.WARNING,
        "cell c in zone z1 not asked: no answer from c",
    )


def test_cells_that_say_nothing_in_time_are_a_problem() -> None:
    result = CanaryResult(CanaryKind.EVERY_CELL, problem="no answer from a", is_silent=True)
    (found,) = findings_of(result, [cell("a")], REGISTRY)
    assert (found.level, "registry answers cells" in found.advice) == (Level.PROBLEM, True)


def test_what_keeps_cells_from_being_asked_is_said() -> None:
    result = CanaryResult(CanaryKind.EVERY_CELL, problem="registry: DENIED: no")
    (found,) = findings_of(result, [cell("a")], REGISTRY)
    assert (found.level, found.text) == (Level.WARNING, "cell a in zone z1 not asked: registry: DENIED: no")


REFUSED = start_failure(next(text for text in SAID if "authentication required" in text))


@pytest.mark.parametrize(
    ("result", "level", "text"),
    [
        (
            CanaryResult(CanaryKind.EVERY_CELL, (CellAnswer("b"), CellAnswer("a"))),
            Level.OK,
            f"pulled from {REGISTRY} without a login, as what is desired from a droplet is, by the cells a, b",
        ),
        (
            CanaryResult(CanaryKind.EVERY_CELL, (CellAnswer("b", REFUSED), CellAnswer("a"))),
            Level.WARNING,
            f"cells cannot pull from {REGISTRY} without a login, as what is desired from a droplet: cell b: ",
        ),
        (
            CanaryResult(CanaryKind.EVERY_CELL, (CellAnswer("a"),), problem="no answer from b"),
            Level.WARNING,
            "cells not asked to pull without a login, as what is desired from a droplet: no answer from b",
        ),
    ],
    ids=["pulled", "refused", "silent"],
)
def test_what_cells_show_for_droplets_is_one_finding(result: CanaryResult, level: Level, text: str) -> None:
    found = finding_of_cells(result, CanaryLogin.NONE, REGISTRY)

    assert (found.level, found.text[: len(text)]) == (level, text)
    assert bool(found.advice) is (level is not Level.OK)
