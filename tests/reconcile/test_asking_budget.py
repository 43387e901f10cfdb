"""How often sources are asked again although nothing says that their tags have moved."""

from hypothesis import given
from hypothesis import strategies as st

from reconcile.asking_budget import AT_ONCE, EVERY, MOST_HOSTS, AskingBudget

NOW = 1000.0


def test_some_are_asked_at_once_and_further_ones_in_turn() -> None:
    budget = AskingBudget()

    pauses = [budget.pause("docker.io", NOW) for _ in range(AT_ONCE + 3)]

    assert pauses == [0.0] * AT_ONCE + [EVERY, 2 * EVERY, 3 * EVERY]


def test_each_registry_has_turns_of_its_own() -> None:
    budget = AskingBudget()
    for _ in range(AT_ONCE + 1):
        budget.pause("docker.io", NOW)

    assert budget.pause("quay.io", NOW) == 0.0
    assert budget.pause("docker.io", NOW) > 0.0


def test_turns_that_were_not_taken_are_there_later_but_never_more_of_them() -> None:
    budget = AskingBudget()
    for _ in range(AT_ONCE):
        budget.pause("docker.io", NOW)
    assert budget.pause("docker.io", NOW + EVERY) == 0.0
    assert budget.pause("docker.io", NOW + EVERY) == EVERY

    later = [budget.pause("docker.io", NOW + 1e6) for _ in range(AT_ONCE + 1)]
    assert later == [0.0] * AT_ONCE + [EVERY]


def test_of_very_many_registries_those_asked_last_are_remembered() -> None:
    budget = AskingBudget()
    for _ in range(AT_ONCE + 1):
        budget.pause("docker.io", NOW)
    for number in range(MOST_HOSTS):
        budget.pause(f"r-{number}.example", NOW)

    assert budget.pause("docker.io", NOW) == 0.0


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=100))
def test_no_stretch_of_time_sees_more_than_its_turns(waits: list[float]) -> None:
    budget, now, asked = AskingBudget(), NOW, list[float]()
    for wait in waits:
        now += wait
        asked.append(now + budget.pause("docker.io", now))

    asked.sort()
    for first in range(len(asked)):
        for last in range(first, len(asked)):
            most = AT_ONCE + (asked[last] - asked[first]) / EVERY
            assert last - first + 1 <= most + 1e-6
