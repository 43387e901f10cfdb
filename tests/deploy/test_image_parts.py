"""How the container image is put together, from small packages that are made here; no container is started."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tomllib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controller.health_server import HealthAnswers, serve_health
from hack.oci_image import build as image
from hack.oci_image.build import CONTAINER, USER, Refused, Source, check, source_of
from hack.oci_image.contents import FILES, put_wheels
from hack.oci_image.debian import GLIBC, PYTHON, packages_in
from hack.oci_image.layers import TIME
from hack.wheels import LOCK, Target, needed
from tests.contracts.distribution import free_port
from tests.deploy.bosh import ROOT
from tests.documents import PAGES

pytestmark = pytest.mark.usefixtures("servers")

SOURCE = Source(1_780_000_000, "0123abcd")

LOADER = f"""#!/bin/sh
# In place of the image's own Python, which these packages do not hold.
shift 3
unset PYTHONHOME
exec {sys.executable} "$@"
"""

PACKAGES = {
    "python3.11": {
        "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": LOADER,
        "usr/bin/python3.11": "not a program",
        "usr/lib/python3.11/os.py": "NAME = 'posix'\n",
        "usr/share/doc/python3.11/copyright": "PSF-2.0",
        "usr/share/doc/python3.11/changelog": "long",
        "usr/share/man/man1/python3.11.1": "long",
    },
    "ca-certificates": {
        "tmp/.keep": "",
        "usr/share/ca-certificates/mozilla/Second.crt": "second\n",
        "usr/share/ca-certificates/mozilla/First.crt": "first",
        "usr/share/doc/ca-certificates/copyright": "MPL-2.0",
    },
}


@dataclass(frozen=True, slots=True)
class Built:
    """An image: its archive, its manifest and configuration, and what the layers hold by name."""

    archive: bytes
    bill: bytes
    index: dict[str, Any]
    manifest: dict[str, Any]
    config: dict[str, Any]
    loaded: list[dict[str, Any]]
    layers: list[dict[str, tarfile.TarInfo]]
    contents: dict[str, bytes]

    @property
    def files(self) -> dict[str, tarfile.TarInfo]:
        return {name: member for layer in self.layers for name, member in layer.items()}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages as they are collected; without Debian's tool CI fails and a developer's run skips."""
    if shutil.which("dpkg-deb") is None:
        if os.environ.get("CI") == "true":
            raise RuntimeError("dpkg-deb is not installed")
        pytest.skip("dpkg-deb is not installed (Debian package dpkg)")
    directory = tmp_path_factory.mktemp("packages")
    (directory / "debian").mkdir()
    for name, files in PACKAGES.items():
        make_debian_package(directory / "debian" / f"{name}.deb", name, files)
    (directory / "wheels").mkdir()
    make_wheel(directory / "wheels" / "made_up-1.0-py3-none-any.whl")
    (directory / "SHA256SUMS").write_text(image._digests_in(directory))
    return directory


def make_debian_package(file: Path, name: str, files: dict[str, str]) -> None:
    tree = file.with_suffix("")
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
        (tree / path).chmod(0o4755 if "linux-gnu" in path else 0o644)
    (tree / "usr/share/doc" / name / "LICENSE").symlink_to("copyright")
    (tree / "usr/bin").mkdir(parents=True, exist_ok=True)
    (tree / "usr/bin" / f"{name}-link").symlink_to("elsewhere")
    (tree / "DEBIAN").mkdir()
    control = f"Package: {name}\nSource: {name}-source (2)\nVersion: 1:2.0+x~1\nArchitecture: amd64\n"
    (tree / "DEBIAN/control").write_text(f"{control}Maintainer: nobody\nDescription: made up\n and long\n")
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(file)]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(tree)


def make_wheel(file: Path, **others: str) -> None:
    entries = {
        "made_up/__init__.py": "VALUE = 1\n",
        "made_up-1.0.dist-info/METADATA": "Name: Made_Up\nVersion: 1.0\nLicense-Expression: MIT\n\nDescription\n",
        "made_up-1.0.data/purelib/made_up/more.py": "",
        "made_up-1.0.data/scripts/made-up": "#!python\n",
        **others,
    }
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)


def build(packages: Path, output: Path) -> Built:
    digest = image.build(packages, output, SOURCE)
    (archive,), (bill,) = output.glob("*.tar"), output.glob("*.spdx.json")
    blobs: dict[str, bytes] = {}
    with tarfile.open(archive) as opened:
        for member in opened:
            content = opened.extractfile(member)
            assert content is not None
            blobs[member.name] = content.read()
    index = json.loads(blobs["index.json"])
    assert index["manifests"][0]["digest"] == digest
    manifest = json.loads(blob(blobs, index["manifests"][0]))
    config = json.loads(blob(blobs, manifest["config"]))
    layers: list[dict[str, tarfile.TarInfo]] = []
    contents: dict[str, bytes] = {}
    for descriptor, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        plain = zlib.decompress(blob(blobs, descriptor), wbits=31)
        assert f"sha256:{hashlib.sha256(plain).hexdigest()}" == diff_id
        unpacked = output / "layer.tar"
        unpacked.write_bytes(plain)
        with tarfile.open(unpacked) as layer:
            layers.append({member.name: member for member in layer})
            contents |= {name: read(layer, member) for name, member in layers[-1].items() if member.isfile()}
    loaded = json.loads(blobs["manifest.json"])
    return Built(archive.read_bytes(), bill.read_bytes(), index, manifest, config, loaded, layers, contents)


def blob(blobs: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    """Find the content of a descriptor, and see that it is that."""
    content = blobs[f"blobs/{descriptor['digest'].replace(':', '/')}"]
    assert len(content) == descriptor["size"]
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"]
    return content


def read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    assert content is not None
    return content.read()


@pytest.fixture(scope="module")
def built(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(packages, tmp_path_factory.mktemp("image"))


def test_the_same_packages_give_the_same_bytes(built: Built, packages: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        again = build(packages, tmp_path)
    finally:
        os.umask(before)

    assert again.archive == built.archive
    assert again.bill == built.bill


def test_docker_finds_the_same_blobs(built: Built) -> None:
    (entry,) = built.loaded

    assert entry["RepoTags"] == ["diego-docker-cache:0.1.0"]
    assert entry["Config"] == f"blobs/{built.manifest['config']['digest'].replace(':', '/')}"
    assert entry["Layers"] == [
        f"blobs/{each['digest'].replace(':', '/')}" for each in built.manifest["layers"]
    ]


def test_layers_go_from_what_changes_least_to_what_changes_most(built: Built) -> None:
    system, needs, own = built.layers
    site = f"usr/local/lib/python{PYTHON}/dist-packages"

    assert "usr/lib/python3.11/os.py" in system
    assert f"{site}/made_up/__init__.py" in needs
    assert f"{site}/controller/daemon.py" in own
    assert not system.keys() & needs.keys()
    assert not (system.keys() | needs.keys()) & own.keys()
    assert [each["comment"] for each in built.config["history"]] == [
        "Python 3.11 of Debian bookworm",
        "what the daemon needs, from requirements/run.txt",
        "diego-docker-cache 0.1.0",
    ]


def test_packages_lie_where_a_merged_debian_has_them(built: Built) -> None:
    assert built.files["lib"].linkname == "usr/lib"
    assert "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" in built.files
    assert built.files["usr/bin/python3.11-link"].linkname == "elsewhere"
    assert not [name for name in built.files if name.startswith("lib/")]


def test_licenses_are_in_it_and_manuals_are_not(built: Built) -> None:
    assert built.contents["usr/share/doc/python3.11/copyright"] == b"PSF-2.0"
    names = built.files.keys()
    assert not {name for name in names if "changelog" in name or name.startswith("usr/share/man")}


def test_modules_are_compiled_as_they_are_named_in_the_image(built: Built) -> None:
    site = f"usr/local/lib/python{PYTHON}/dist-packages"
    tag = f"cpython-{sys.version_info.major}{sys.version_info.minor}"
    for module in ("usr/lib/python3.11/os", f"{site}/made_up/__init__", f"{site}/controller/daemon"):
        directory, _, name = module.rpartition("/")
        code = built.contents[f"{directory}/__pycache__/{name}.{tag}.pyc"]
        assert f"/{module}.py".encode() in code
        assert code[4] == 1, "its source is compared with it"


def test_what_wheels_install_beside_modules_is_left_out(built: Built) -> None:
    site = f"usr/local/lib/python{PYTHON}/dist-packages"
    assert f"{site}/made_up/more.py" in built.files
    assert not [name for name in built.files if ".data" in name or name.endswith("bin/made-up")]


def test_certificates_are_where_openssl_looks_for_them(built: Built) -> None:
    assert built.contents["etc/ssl/certs/ca-certificates.crt"] == b"first\nsecond\n"
    assert built.files["usr/lib/ssl/cert.pem"].linkname == "/etc/ssl/certs/ca-certificates.crt"


def test_only_the_store_is_the_daemon_s(built: Built) -> None:
    """And nothing in the image gives rights to who runs it."""
    (own,) = (name for name, member in built.files.items() if (member.uid, member.gid) != (0, 0))

    assert own == "var/vcap/store/docker_cache"
    assert (built.files[own].uid, built.files[own].mode) == (USER, 0o700)
    assert built.files["tmp"].mode == 0o1777
    for name, member in built.files.items():
        assert not member.mode & (stat.S_ISUID | stat.S_ISGID), name
        assert member.issym() or name == "tmp" or not member.mode & stat.S_IWOTH, name
        assert member.mtime == TIME, name


def test_scanners_find_what_is_installed(built: Built) -> None:
    paragraphs = built.contents["var/lib/dpkg/status"].decode().split("\n\n")

    assert [each.splitlines()[:2] for each in paragraphs] == [
        ["Package: ca-certificates", "Status: install ok installed"],
        ["Package: python3.11", "Status: install ok installed"],
    ]


def test_it_starts_the_daemon_as_a_user_without_rights(built: Built) -> None:
    config = built.config["config"]

    assert config["User"] == f"{USER}:{USER}"
    assert config["Cmd"] == ["run"]
    for program in (config["Entrypoint"][0], config["Healthcheck"]["Test"][1]):
        assert built.files[program.removeprefix("/")].mode & stat.S_IXOTH
        shebang = built.contents[program.removeprefix("/")].splitlines()[0].decode()
        assert shebang.startswith(f"#!/usr/bin/python{PYTHON} ")
    assert f"vcap:x:{USER}:{USER}:" in built.contents["etc/passwd"].decode()


def test_labels_say_what_it_is(built: Built) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = built.config["config"]["Labels"]

    assert labels == built.manifest["annotations"]
    assert {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()} == {
        "title": project["name"],
        "description": project["description"],
        "version": "0.1.0",
        "revision": "0123abcd",
        "created": "2026-05-28T20:26:40Z",
        "licenses": project["license"],
        "source": project["urls"]["Repository"],
        "documentation": project["urls"]["Documentation"],
    }


def test_the_bill_of_materials_names_every_package_by_its_digest(built: Built, packages: Path) -> None:
    bill = json.loads(built.bill)
    parts = {each["SPDXID"]: each for each in bill["packages"]}

    assert bill["spdxVersion"] == "SPDX-2.3"
    assert len(parts) == len(bill["packages"])
    contained = {
        each["relatedSpdxElement"]
        for each in bill["relationships"]
        if (each["spdxElementId"], each["relationshipType"]) == ("SPDXRef-image", "CONTAINS")
    }
    assert contained == parts.keys() - {"SPDXRef-image"}
    assert {purl(each) for each in parts.values() if each["SPDXID"] != "SPDXRef-image"} == {
        "pkg:deb/debian/ca-certificates@1%3A2.0%2Bx~1?arch=amd64&distro=bookworm",
        "pkg:deb/debian/python3.11@1%3A2.0%2Bx~1?arch=amd64&distro=bookworm",
        "pkg:pypi/made-up@1.0",
        "pkg:pypi/diego-docker-cache@0.1.0",
    }
    wheel = packages / "wheels" / "made_up-1.0-py3-none-any.whl"
    assert parts["SPDXRef-pypi-made-up"]["licenseDeclared"] == "MIT"
    assert parts["SPDXRef-pypi-made-up"]["checksums"] == [
        {"algorithm": "SHA256", "checksumValue": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    ]
    assert parts["SPDXRef-deb-python3.11"]["sourceInfo"].endswith("source package python3.11-source")


def purl(part: dict[str, Any]) -> str:
    (reference,) = part["externalRefs"]
    return str(reference["referenceLocator"])


def test_the_image_has_its_own_bill_of_materials(built: Built) -> None:
    assert built.contents["usr/share/doc/diego-docker-cache/sbom.spdx.json"] == built.bill


def test_packages_that_were_changed_are_refused(packages: Path, tmp_path: Path) -> None:
    shutil.copytree(packages, tmp_path / "packages")
    check(tmp_path / "packages")
    (wheel,) = (tmp_path / "packages" / "wheels").iterdir()
    wheel.write_bytes(wheel.read_bytes() + b"\0")

    with pytest.raises(Refused, match="collect it again"):
        check(tmp_path / "packages")


def test_a_directory_without_packages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="collect it again"):
        check(tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside.py", "made_up-1.0.data/purelib/../../x.py"])
def test_a_wheel_cannot_write_elsewhere(name: str, tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheel", **{name: "VALUE = 2\n"})

    with pytest.raises(ValueError, match="lies outside"):
        put_wheels(tmp_path / "root", [tmp_path / "wheel"])


def test_two_wheels_with_the_same_module_are_refused(tmp_path: Path) -> None:
    make_wheel(tmp_path / "first", **{"shared.py": "VALUE = 1\n"})
    make_wheel(tmp_path / "second", **{"shared.py": "VALUE = 2\n"})

    with pytest.raises(ValueError, match=r"two wheels have shared\.py"):
        put_wheels(tmp_path / "root", [tmp_path / "first", tmp_path / "second"])


def test_the_time_of_an_image_is_stated_or_that_of_the_source() -> None:
    assert source_of({"SOURCE_DATE_EPOCH": "1780000000"}).time == "2026-05-28T20:26:40Z"


def test_the_lock_names_all_that_the_image_s_python_needs() -> None:
    for machine in ("x86_64", "aarch64"):
        names = {each.partition("==")[0] for each in needed(LOCK.read_text(), Target(PYTHON, GLIBC, machine))}
        assert {"botocore", "grpcio", "httpx", "psycopg-binary", "pymysql", "sqlalchemy"} <= names


def test_packages_are_read_by_name(packages: Path) -> None:
    read = [*packages_in(packages / "debian")]

    assert [(each.name, each.version, each.source) for each in read] == [
        ("ca-certificates", "1:2.0+x~1", "ca-certificates-source"),
        ("python3.11", "1:2.0+x~1", "python3.11-source"),
    ]


HEALTHCHECK = FILES / CONTAINER["Healthcheck"]["Test"][1].removeprefix("/")


def healthcheck(config: Path, text: str) -> subprocess.CompletedProcess[str]:
    config.write_text(text)
    return subprocess.run(
        [sys.executable, "-B", HEALTHCHECK],
        env={"PYTHONPATH": str(ROOT), "DOCKER_CACHE_CONFIG": str(config)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_container_is_well_while_the_daemon_answers(tmp_path: Path) -> None:
    """A standby too, which is not ready."""
    with serve_health("127.0.0.1:0", HealthAnswers(lambda: "it stands by")) as port:
        text = f'// a comment\n{{"healthcheck_address": "127.0.0.1:{port}"}}'
        ended = healthcheck(tmp_path / "config", text)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_container_is_unwell_when_nobody_answers_and_says_so(tmp_path: Path) -> None:
    ended = healthcheck(tmp_path / "config", f'{{"healthcheck_address": "[::1]:{free_port()}"}}')

    assert ended.returncode == 1
    assert "does not answer" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("text", "why"), [("{}", "no healthcheck_address"), ("{", "is not JSON")])
def test_a_container_whose_daemon_cannot_be_asked_is_unwell(text: str, why: str, tmp_path: Path) -> None:
    ended = healthcheck(tmp_path / "config", text)

    assert ended.returncode == 1
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr


PAGE = (PAGES / "how-to" / "container.md").read_text()


def test_its_page_says_what_a_container_needs() -> None:
    for place in (CONTAINER["Env"][-1].partition("=")[2], "/var/vcap/store/docker_cache", HEALTHCHECK.name):
        assert place in PAGE
    assert f"chown -R {USER}:{USER} " in PAGE


def test_its_page_gives_the_container_no_rights() -> None:
    runs = [part for part in PAGE.split("$ ") if part.startswith("docker run ")]

    assert len(runs) == 2
    for run in runs:
        assert "--read-only" in run
        assert "--cap-drop ALL --security-opt no-new-privileges" in run
        assert "target=/var/vcap/jobs/docker_cache/config,readonly" in run
        assert "target=/var/vcap/store/docker_cache " in run  # `config check` looks whether it can be written


def run_build(*arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hack.oci_image.build", *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": ".", "PATH": path, "SOURCE_DATE_EPOCH": "1780000000"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_debian_s_tools_it_says_so(tmp_path: Path) -> None:
    ended = run_build("--output", str(tmp_path), path=str(tmp_path))

    assert ended.returncode == 1
    assert (
        ended.stderr
        == "hack/image: there is no apt-get here: build the image on Debian, or in a container of it\n"
    )


def test_what_a_tool_could_not_do_is_told_in_a_line(tmp_path: Path) -> None:
    """Such as apt without a network; the tool itself has said why."""
    for tool in ("apt-get", "dpkg", "dpkg-deb"):
        (tmp_path / tool).write_text("#!/bin/sh\nexec /bin/false\n")
        (tmp_path / tool).chmod(0o755)

    ended = run_build("--output", str(tmp_path / "out"), path=str(tmp_path))

    assert ended.returncode == 1
    assert ended.stderr == "hack/image: failed: dpkg --print-architecture\n"


def test_what_is_no_collection_of_packages_is_not_replaced(packages: Path, tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "mine").touch()

    ended = run_build("--output", str(tmp_path), path=os.environ["PATH"])

    assert ended.returncode == 1
    assert "is something else than packages" in ended.stderr
    assert (tmp_path / "packages" / "mine").exists()
