import os

from controller.leadership.kept import hand_on, take_over


def test_a_lock_is_handed_on_once_within_a_process() -> None:
    environ: dict[str, str] = {}
    hand_on("run-1", environ)

    assert take_over(environ) == "run-1"
    assert take_over(environ) is None
    assert environ == {}


def test_another_process_that_inherits_it_gets_nothing() -> None:
    environ: dict[str, str] = {}
    hand_on("run-1", environ)
    (name,) = environ
    environ[name] = environ[name].replace(str(os.getpid()), str(os.getpid() + 1))

    assert take_over(environ) is None
    assert take_over({}) is None
