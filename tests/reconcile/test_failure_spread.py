"""How many failures have nothing in common."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from reconcile.failure_spread import Cause, spread, with_cause

few_names = st.sampled_from("abcde")
some_causes = st.frozensets(st.builds(Cause, few_names, few_names), max_size=10)


def fewest_culprits(causes: frozenset[Cause]) -> int:
    """Try all sets of things that may be at fault, the smallest first."""
    things = sorted({(0, cause.one) for cause in causes} | {(1, cause.other) for cause in causes})
    for count in range(len(things) + 1):
        for culprits in combinations(things, count):
            if all((0, cause.one) in culprits or (1, cause.other) in culprits for cause in causes):
                return count
    raise AssertionError("all things together explain all failures")


def test_what_one_organization_does_counts_as_one_whatever_its_images_are() -> None:
    assert spread({Cause("org", str(n)) for n in range(100)}) == 1


def test_what_one_image_does_counts_as_one_whoever_runs_it() -> None:
    assert spread({Cause(str(n), "image") for n in range(100)}) == 1


def test_an_organization_and_an_image_that_are_both_bad_are_two() -> None:
    org = {Cause("bad", image) for image in ("1", "2", "3")}
    image = {Cause(name, "1") for name in ("a", "b")}
    assert spread(org | image) == 2


def test_a_failure_that_came_first_is_explained_anew_when_others_follow() -> None:
    """To count each by the first thing that is free would find one."""
    assert spread({Cause("a", "1"), Cause("a", "2"), Cause("b", "1")}) == 2


@given(some_causes)
def test_the_spread_is_the_smallest_number_of_things_that_explain_all_failures(
    causes: frozenset[Cause],
) -> None:
    assert spread(causes) == fewest_culprits(causes)


@given(st.lists(st.builds(Cause, few_names, few_names), max_size=30), st.integers(1, 4))
def test_leaving_out_what_cannot_matter_changes_no_answer_and_keeps_few(seen: list[Cause], most: int) -> None:
    kept = frozenset[Cause]()
    for cause in seen:
        if spread(kept) < most:
            kept = with_cause(kept, cause, most=most)
            assert len(kept) <= most * most

    assert min(spread(kept), most) == min(spread(seen), most)


def test_thousands_of_failures_in_a_chain_are_counted() -> None:
    chain = {Cause(str(n), str(n)) for n in range(3000)} | {Cause(str(n), str(n + 1)) for n in range(3000)}
    assert spread(chain) == 3000
