"""What the BOSH release installs: the wheels that the lock names, and the script that installs them on a VM."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hack.bosh_packages import PYTHON, put_in_place
from hack.wheels import LOCK, Target, build_own, needed
from tests.deploy.bosh import JOB, RELEASE, read_yaml

PYTHON_ON_VM = f"/var/vcap/packages/python-{PYTHON.python}/bin/python3"

pytestmark = pytest.mark.usefixtures("servers")


def test_only_what_the_release_s_python_needs_is_taken_with_all_hashes() -> None:
    lock = (
        "# from somewhere\n"
        "one==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n    # via two\n"
        "two[extra]==2.0 ; python_version < '3.13' and sys_platform == 'linux' \\\n    --hash=sha256:cc\n"
        "three==3.0 ; sys_platform == 'win32' \\\n    --hash=sha256:dd\n"
        "four==4.0 ; python_full_version < '3.12' \\\n    --hash=sha256:ee\n"
    )

    assert list(needed(lock, Target("3.12", glibc=35))) == [
        "one==1.0 --hash=sha256:aa --hash=sha256:bb",
        "two==2.0 --hash=sha256:cc",
    ]


def test_the_lock_names_all_that_packaging_tries_to_import() -> None:
    names = {each.partition("==")[0] for each in needed(LOCK.read_text(), PYTHON)}

    assert {"botocore", "grpcio", "httpx", "psycopg", "psycopg-binary", "pymysql", "sqlalchemy"} <= names
    assert "pywin32" not in names


def test_job_and_package_have_the_same_python() -> None:
    job, package = read_yaml(JOB / "spec"), read_yaml(RELEASE / "packages" / "docker_cache" / "spec")

    assert job["packages"] == [f"python-{PYTHON.python}", "docker_cache"]
    assert package["dependencies"] == [f"python-{PYTHON.python}"]
    for path in (RELEASE / "packages" / "docker_cache" / "packaging", *(JOB / "templates").iterdir()):
        text = path.read_text()
        assert text.count("/packages/python-") == text.count(PYTHON_ON_VM), path


def packaged(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Run the packaging script as a compilation VM does, with the Python that runs this.

    The VM has those files of the source alone that the package's spec names.
    """
    package = RELEASE / "packages" / "docker_cache"
    compiled = source.parent / "compiled"
    for pattern in read_yaml(package / "spec")["files"]:
        for path in source.glob(pattern):
            copy = compiled / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    script = (package / "packaging").read_text()
    return subprocess.run(
        ["bash", "-c", script.replace(PYTHON_ON_VM, sys.executable)],
        cwd=compiled,
        env={"PATH": os.environ["PATH"], "BOSH_INSTALL_TARGET": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_packaging_script_installs_the_wheels_that_are_named(wheels: Path, tmp_path: Path) -> None:
    put_in_place(wheels, tmp_path / "source" / "docker_cache")

    ended = packaged(tmp_path / "source", tmp_path / "installed")

    assert ended.returncode == 0, ended.stderr
    assert "diego-docker-cache, version " in ended.stdout
    assert (tmp_path / "installed" / "lib" / "controller" / "daemon.py").exists()


def test_a_wheel_that_was_changed_is_not_installed(wheels: Path, tmp_path: Path) -> None:
    put_in_place(wheels, tmp_path / "source" / "docker_cache")
    (wheel,) = (tmp_path / "source" / "docker_cache" / "wheels").iterdir()
    wheel.write_bytes(wheel.read_bytes() + b"\0")

    ended = packaged(tmp_path / "source", tmp_path / "installed")

    assert ended.returncode != 0
    assert "DO NOT MATCH THE HASHES" in ended.stderr


def test_the_wheel_is_the_same_each_time(wheels: Path, tmp_path: Path) -> None:
    """A release of the same source has the same fingerprint."""
    build_own(tmp_path)

    (first,), (again,) = wheels.glob("*.whl"), tmp_path.glob("*.whl")
    assert first.read_bytes() == again.read_bytes()
