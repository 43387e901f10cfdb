"""Collects what the BOSH release installs without a network: a wheel for each package, with its hash.

Started by hack/bosh-packages. The versions are those of requirements/run.txt, the wheels those for the Python
and the stemcells below, whatever this runs on; the project's own wheel is built here.
"""

import argparse
import hashlib
import shutil
import tempfile
from pathlib import Path

from packaging.utils import parse_wheel_filename

from hack.wheels import LOCK, ROOT, Target, build_own, download, needed

TARGET = ROOT / "deploy" / "bosh" / "src" / "docker_cache"

PYTHON = Target("3.12", glibc=35)
"""The release's Python package, on the oldest stemcell, Ubuntu Jammy."""


def requirement_of(wheel: Path) -> str:
    """Write the line that installs a wheel and no other file."""
    name, version, _, _ = parse_wheel_filename(wheel.name)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def put_in_place(wheels: Path, target: Path) -> None:
    """Put wheels, and the requirements that name each by its hash, where the release has them."""
    files = sorted(wheels.glob("*.whl"))
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copytree(wheels, target / "wheels")
    (target / "requirements.txt").write_text("".join(f"{requirement_of(each)}\n" for each in files))


def main() -> None:
    """Collect all wheels."""
    argparse.ArgumentParser(
        prog="hack/bosh-packages", description=(__doc__ or "").partition("\n")[0]
    ).parse_args()
    with tempfile.TemporaryDirectory() as made:
        wheels = Path(made) / "wheels"
        download(needed(LOCK.read_text(), PYTHON), wheels, PYTHON)
        build_own(wheels)
        put_in_place(wheels, TARGET)
    count = len(list((TARGET / "wheels").iterdir()))
    print(f"{TARGET.relative_to(ROOT)}: {count} wheels for Python {PYTHON.python}")


if __name__ == "__main__":
    main()
