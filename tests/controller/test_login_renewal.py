"""When it is the turn of which LRP to have its login updated."""

from controller.login_renewal import AGAIN_AFTER, UPDATES_A_SECOND, LoginRenewal
from reconcile.lrps import ProcessGuid

NOW = 50_000.0
A, B = ProcessGuid("a"), ProcessGuid("b")


def test_a_thousand_lrps_take_their_turns_one_after_another() -> None:
    """However they all ask at once, and however often each of them asks."""
    renewal = LoginRenewal()
    keys = [ProcessGuid(f"p-{n}") for n in range(1000)]

    waits = [renewal.seconds_until_turn(key, NOW) for key in keys]
    again = [renewal.seconds_until_turn(key, NOW) for key in keys[1:]]

    assert waits[0] == 0.0
    assert waits[1:] == again
    assert [round(wait * UPDATES_A_SECOND) for wait in waits] == list(range(1000))
    for key, wait in zip(keys[1:], waits[1:], strict=True):
        assert renewal.seconds_until_turn(key, NOW + wait + 0.001) == 0.0


def test_those_that_come_too_late_do_not_come_all_at_once() -> None:
    """Their passes waited behind others."""
    renewal = LoginRenewal()
    keys = [ProcessGuid(f"p-{n}") for n in range(100)]
    for key in keys:
        renewal.seconds_until_turn(key, NOW)

    late = [renewal.seconds_until_turn(key, NOW + 30.0) for key in keys[1:]]

    assert late[0] == 0.0
    assert [round(wait * UPDATES_A_SECOND) for wait in late] == list(range(99))


def test_the_first_one_does_not_wait() -> None:
    renewal = LoginRenewal()

    assert renewal.seconds_until_turn(A, NOW) == 0.0
    assert renewal.seconds_until_turn(B, NOW + 1.0) == 0.0


def test_one_that_somebody_else_changes_again_and_again_waits() -> None:
    renewal = LoginRenewal()
    assert renewal.seconds_until_turn(A, NOW) == 0.0

    assert renewal.seconds_until_turn(A, NOW + 1.0) == AGAIN_AFTER - 1.0
    assert renewal.seconds_until_turn(B, NOW + 1.5) == 0.0, "others do not wait for that"
    assert renewal.seconds_until_turn(A, NOW + AGAIN_AFTER) == 0.0
    assert renewal.seconds_until_turn(A, NOW + 2 * AGAIN_AFTER + 1.0) == 0.0


def test_the_turn_of_one_that_is_gone_is_forgotten() -> None:
    renewal = LoginRenewal()
    renewal.seconds_until_turn(A, NOW)
    renewal.seconds_until_turn(B, NOW)

    assert renewal.seconds_until_turn(A, NOW + 10 * AGAIN_AFTER) == 0.0
    assert renewal.seconds_until_turn(B, NOW + 10 * AGAIN_AFTER) > 0.0, "after the one before it"


def test_those_with_another_login_are_counted_once() -> None:
    renewal = LoginRenewal()
    for _ in range(2):
        renewal.note(A, is_outdated=True)
    renewal.note(B, is_outdated=True)
    assert renewal.outdated == 2

    renewal.note(A, is_outdated=False)
    renewal.note(A, is_outdated=False)
    assert renewal.outdated == 1
