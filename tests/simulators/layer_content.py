"""What a cell makes of a layer's bytes: size, compression, digests, and the archive in it.

Source: grootfs fetcher/layer_fetcher/source/layer_source.go (2024, which knows no zstd),
base_image_puller/unpacker/tar.go; measured: what is refused although every byte is right.
"""

import hashlib
import io
import posixpath
import tarfile
import zlib
from collections.abc import AsyncIterator

from tests.simulators.cell_failures import PullFailed, failed_layer, failed_unpacking
from tests.simulators.cell_store import Layer

GZIP = 31
"""Makes zlib expect the header and the checksum of gzip."""
MAGIC = b"\x1f\x8b"
WHITEOUT = ".wh."


async def check_layer(layer: Layer, length: int | None, parts: AsyncIterator[bytes], quota: int) -> int:
    """Read a layer as it comes and give the bytes that it takes unpacked.

    Args:
        layer: What it should be.
        length: What the registry says of its length; None for nothing.
        parts: Its bytes.
        quota: Bytes that it may take unpacked; 0 for any.

    Raises:
        PullFailed: It is not what it should be, or cannot be unpacked.
    """
    if length is not None:
        _check_size(layer, length, "reported")
    content = b"".join([part async for part in parts])
    archive = content
    if not layer.media_type or "gzip" in layer.media_type:
        archive = _unzipped(layer, content)
    if quota and len(archive) > quota:
        raise failed_layer(layer.digest, "writing blob to tempfile: uncompressed layer size exceeds quota")
    _check_size(layer, len(content), "actual")
    for name, wanted, found in (("layerID", layer.digest, content), ("diffID", layer.diff_id, archive)):
        actual = hashlib.sha256(found).hexdigest()
        expected = wanted.partition(":")[2]
        if expected != actual:
            problem = f"{name} digest mismatch: expected: {expected}, actual: {actual}"
            raise failed_layer(layer.digest, problem)
    _unpack(layer, archive)
    return len(archive)


def _check_size(layer: Layer, size: int, which: str) -> None:
    if layer.size is not None and size != layer.size:
        numbers = f"expected: {layer.size}, actual {size}"
        problem = f"layer size is different from the value in the manifest; {numbers}"
        raise failed_layer(layer.digest, f"validating {which} blob size: {problem}")


def gunzip(content: bytes) -> bytes:
    """Unpack gzip, of several members as well.

    Raises:
        ValueError: It is none, or ends too early; the text says so as the cell does.
    """
    if not content.startswith(MAGIC):
        raise ValueError("gzip: invalid header" if content else "EOF")
    made = b""
    while content:
        member = zlib.decompressobj(GZIP)
        try:
            made += member.decompress(content)
        except zlib.error as problem:
            raise ValueError("flate: corrupt input before offset 5") from problem
        if not member.eof:
            raise ValueError("unexpected EOF")
        content = member.unused_data
    return made


def _unzipped(layer: Layer, content: bytes) -> bytes:
    try:
        return gunzip(content)
    except ValueError as problem:
        if content.startswith(MAGIC):
            raise failed_layer(layer.digest, f"writing blob to tempfile: {problem}") from problem
        what = f"expected blob to be of type {layer.media_type}: {problem}"
        raise failed_layer(layer.digest, what) from problem


def _unpack(layer: Layer, archive: bytes) -> None:
    names, directories = set[str](), {""}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for member in tar:
                name = posixpath.normpath(member.name).lstrip("/")
                parent, base = posixpath.split(name)
                if base.startswith(WHITEOUT) and parent not in directories:
                    raise _no_such_file(layer, parent)
                if member.islnk() and posixpath.normpath(member.linkname).lstrip("/") not in names:
                    raise _no_such_file(layer, member.linkname)
                names.add(name)
                if member.isdir():
                    directories.add("" if name == "." else name)
    except tarfile.TarError as problem:
        raise failed_unpacking(layer.digest, "archive/tar: invalid tar header") from problem


def _no_such_file(layer: Layer, name: str) -> PullFailed:
    return failed_unpacking(layer.digest, f"lstat {name}: no such file or directory")
