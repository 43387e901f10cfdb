import tomllib
from typing import Any

import pytest

from hack.lock import LOCKS, ROOT, Lock, declared, digest_of, problems_of

LOCK = Lock("requirements/dev.txt", "dev", with_project=True)


@pytest.fixture
def pyproject() -> dict[str, Any]:
    return {
        "build-system": {"requires": ["builder>=1,<2"]},
        "project": {"requires-python": ">=3.11", "dependencies": ["One_Name>=1.2,<2"]},
        "dependency-groups": {"dev": ["tool==3.4"], "docs": ["pages>=1,<2"]},
    }


def lock_text(pyproject: dict[str, Any], *lines: str) -> str:
    pinned = lines or ("builder==1.0", "one-name==1.3 ; python_version < '4'", "tool==3.4")
    blocks = "".join(f"{line} \\\n    --hash=sha256:00\n    # via it\n" for line in pinned)
    return f"# written by a tool\n# requirements sha256:{digest_of(pyproject, LOCK)}\n{blocks}"


def problems(pyproject: dict[str, Any], text: str) -> list[str]:
    return list(problems_of(pyproject, LOCK, text))


def test_a_lock_of_the_same_requirements_is_current(pyproject: dict[str, Any]) -> None:
    assert problems(pyproject, lock_text(pyproject)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda project: project["project"].update({"requires-python": ">=3.12"}),
        lambda project: project["project"]["dependencies"].append("one-name>=1.1"),
        lambda project: project["dependency-groups"]["dev"].append("one-name>=1.1"),
        lambda project: project["build-system"]["requires"].append("one-name>=1.1"),
    ],
)
def test_whatever_changes_the_lock_makes_it_stale(pyproject: dict[str, Any], change: Any) -> None:
    text = lock_text(pyproject)
    change(pyproject)

    assert problems(pyproject, text) == ["it was made from other requirements"]


def test_another_group_and_comments_do_not_matter(pyproject: dict[str, Any]) -> None:
    text = lock_text(pyproject)
    pyproject["dependency-groups"]["docs"] = []

    assert problems(pyproject, text) == []


def test_a_lock_without_a_digest_is_stale(pyproject: dict[str, Any]) -> None:
    text = lock_text(pyproject).replace("# requirements", "# something")

    assert problems(pyproject, text) == ["it was made from other requirements"]


def test_a_version_that_does_not_fit_is_named(pyproject: dict[str, Any]) -> None:
    text = lock_text(pyproject, "builder==1.0", "one-name==2.0", "tool==3.4")

    assert problems(pyproject, text) == ["One_Name 2.0 is not <2,>=1.2"]


def test_every_version_of_a_package_must_fit(pyproject: dict[str, Any]) -> None:
    older = "one-name==1.1 ; python_version < '3.12'"
    newer = "one-name==1.3 ; python_version >= '3.12'"

    assert problems(pyproject, lock_text(pyproject, "builder==1.0", older, newer, "tool==3.4")) == [
        "One_Name 1.1 is not <2,>=1.2"
    ]


def test_a_missing_package_is_named(pyproject: dict[str, Any]) -> None:
    text = lock_text(pyproject, "one-name==1.3", "tool==3.4")

    assert problems(pyproject, text) == ["builder is missing"]


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://index.example/simple",
        "--extra-index-url file:///somewhere",
        "--find-links wheels",
        "-i index.example",
        "-e .",
        "one-name @ https://index.example/one.whl",
    ],
)
def test_a_lock_does_not_say_where_packages_come_from(pyproject: dict[str, Any], line: str) -> None:
    text = f"{lock_text(pyproject)}{line}\n"

    assert problems(pyproject, text) == [f"it names a place: {line}"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.path)
def test_the_lock_files_are_current(lock: Lock) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert list(problems_of(project, lock, (ROOT / lock.path).read_text())) == []


def test_every_requirement_has_both_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    for requirement in {each for lock in LOCKS for each in declared(project, lock)}:
        assert "==" in requirement or (">=" in requirement and "<" in requirement), requirement
