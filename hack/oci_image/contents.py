"""Puts the image's files into a directory, as they will lie in the image. No script of a package runs.

Each step only adds files, so that each can be a layer. `/bin`, `/lib` and their like are in `/usr`, as on
every Debian of this release.
"""

import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from hack.oci_image.debian import PYTHON, DebianPackage
from hack.wheels import ROOT

FILES = ROOT / "deploy" / "image" / "rootfs"
SITE = PurePosixPath("usr/local/lib") / f"python{PYTHON}" / "dist-packages"
STANDARD_LIBRARY = PurePosixPath("usr/lib") / f"python{PYTHON}"
CERTIFICATES = PurePosixPath("etc/ssl/certs/ca-certificates.crt")

_MERGED = frozenset({"bin", "sbin", "lib", "lib32", "lib64", "libx32"})
_LEFT_OUT = ("usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/lintian/", "usr/share/bug/")
_DOCUMENTS = "usr/share/doc/"  # of which only the licenses are kept


def put_debian(root: Path, packages: Iterable[DebianPackage]) -> None:
    """Unpack Debian's packages, and do what their scripts would have done."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    installed = []
    for package in packages:
        unpack(package.file, root)
        installed.append(package.control.replace("\n", "\nStatus: install ok installed\n", 1))
    status = root / "var" / "lib" / "dpkg" / "status"  # by which scanners know what is here
    status.parent.mkdir(parents=True, exist_ok=True)
    status.write_text("\n".join(installed))
    _trust_certificates(root)


def unpack(package: Path, root: Path) -> None:
    """Unpack one of Debian's packages; no file of it may be there already."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                if (place := _place_of(member.name)) is not None:
                    _extract(archive, member, root, root / place)
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path, target: Path) -> None:
    """Write one file of a package; its owner and who may write it are set when the layer is written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        target.mkdir(exist_ok=True)
    elif member.issym():
        target.symlink_to(member.linkname)
    elif member.islnk():
        target.hardlink_to(root / (_place_of(member.linkname) or member.linkname))
    elif (content := archive.extractfile(member)) is not None:
        with target.open("wb") as output:
            shutil.copyfileobj(content, output)
        target.chmod(0o755 if member.mode & stat.S_IXUSR else 0o644)


def _place_of(name: str) -> str | None:
    """Return the path of a package's file in the image; None for a file that is left out."""
    path = PurePosixPath(name)  # without the "." that it begins with
    if not path.parts or path.parts in {(each,) for each in _MERGED}:
        return None
    if path.parts[0] in _MERGED:
        path = "usr" / path
    plain = f"{path}/"
    if plain.startswith(_LEFT_OUT) or (plain.startswith(_DOCUMENTS) and path.name != "copyright"):
        return None
    return str(path)


def _trust_certificates(root: Path) -> None:
    """Write the certificates where OpenSSL looks for them; an operator may mount others in their place."""
    bundle = root / CERTIFICATES
    bundle.parent.mkdir(parents=True, exist_ok=True)
    sources = sorted((root / "usr" / "share" / "ca-certificates").rglob("*.crt"))
    bundle.write_bytes(b"".join(source.read_bytes().rstrip() + b"\n" for source in sources))
    ssl = root / "usr" / "lib" / "ssl"
    ssl.mkdir(parents=True, exist_ok=True)
    (ssl / "cert.pem").symlink_to(f"/{CERTIFICATES}")
    (ssl / "certs").symlink_to(f"/{CERTIFICATES.parent}")


def put_wheels(root: Path, wheels: Iterable[Path]) -> None:
    """Unpack wheels where Debian's Python finds them, without their scripts."""
    site = root / SITE
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                place = _place_in_site(entry.filename)
                if place is not None and not entry.is_dir():
                    _write(site, place, archive.read(entry), mode=entry.external_attr >> 16)


def _place_in_site(name: str) -> PurePosixPath | None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name} lies outside")
    if not path.parts[0].endswith(".data"):
        return path
    return PurePosixPath(*path.parts[2:]) if path.parts[1] in {"purelib", "platlib"} else None


def _write(site: Path, place: PurePosixPath, content: bytes, *, mode: int) -> None:
    target = site / place
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.read_bytes() != content:
        raise ValueError(f"two wheels have {place}")
    target.write_bytes(content)
    target.chmod(0o755 if mode & stat.S_IXUSR else 0o644)


def put_own(root: Path) -> None:
    """Put the files of deploy/image, and the daemon's directories."""
    shutil.copytree(FILES, root, dirs_exist_ok=True)
    for directory in ("jobs/docker_cache/config", "store/docker_cache"):
        (root / "var" / "vcap" / directory).mkdir(parents=True)


def compile_python(root: Path, *directories: PurePosixPath) -> None:
    """Compile all modules in directories with the image's own Python, which could not write that later.

    The bytecode is not compared with its source when it is read: both are in the image.
    """
    libraries = next((root / "usr" / "lib").glob("*-linux-gnu"))
    loader = next(libraries.glob("ld-linux*.so.*"))
    python = str(root / "usr" / "bin" / f"python{PYTHON}")
    command = [
        *(str(loader), "--library-path", str(libraries), python, "-S", "-s", "-B", "-m", "compileall", "-q"),
        *("-j", "1", "--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/"),
        *(str(root / directory) for directory in directories),
    ]
    environment = {"PYTHONHOME": str(root / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    subprocess.run(command, env=environment, check=True)
