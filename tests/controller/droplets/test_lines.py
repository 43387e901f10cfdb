from controller.droplets.lines import DropletLines
from controller.workqueue import Priority
from reconcile.droplets import DropletGuid

ONE, TWO, THREE = DropletGuid("1"), DropletGuid("2"), DropletGuid("3")


def test_droplets_with_a_priority_go_before_the_backlog() -> None:
    lines = DropletLines()
    lines.put(ONE, Priority.ROUTINE)
    lines.put(TWO, Priority.FRESH)
    lines.put(THREE, Priority.URGENT)

    assert [lines.take() for _ in range(3)] == [THREE, TWO, ONE]


def test_one_of_the_backlog_is_held_at_a_time() -> None:
    lines = DropletLines()
    for guid in (ONE, TWO):
        lines.put(guid, Priority.ROUTINE)
    assert (lines.take(), lines.take(), len(lines)) == (ONE, None, 1)
    assert lines.is_of_backlog(ONE)

    lines.put(THREE, Priority.FRESH)
    assert lines.take() == THREE
    assert not lines.is_of_backlog(THREE)

    lines.release(ONE)
    assert lines.take() == TWO


def test_a_priority_takes_a_droplet_out_of_the_backlog() -> None:
    lines = DropletLines()
    lines.put(ONE, Priority.ROUTINE)
    lines.put(ONE, Priority.FRESH)
    lines.put(ONE, Priority.ROUTINE)

    assert (len(lines), lines.backlog, ONE in lines) == (1, 0, True)
    assert lines.take() == ONE
    assert lines.take() is None
