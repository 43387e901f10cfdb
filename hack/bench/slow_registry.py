"""A registry that a tenant might run: it drips, states sizes, hangs, answers 429 for ever, and has many tags.

It prints its address and serves until it is ended. The first part of a repository's name says what it does.
"""

import asyncio
import contextlib
import functools
import hashlib
import json
import sys
from collections.abc import Mapping

from tests.simulators import images

STATED = 40 << 30
DRIPPED = 100 << 20
PAUSES = {"drips": 0.1, "huge": 5.0}
"""Seconds between two bytes of a blob."""


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@functools.cache
def _stated_image(repository: str, tag: str) -> images.Blob:
    """Make the manifest of an image that nobody has."""
    size = STATED if repository.startswith("huge") else DRIPPED
    document = {
        "schemaVersion": 2,
        "mediaType": images.OCI_MANIFEST,
        "config": {
            "mediaType": images.OCI_CONFIG,
            "digest": _digest(f"config {repository} {tag}"),
            "size": 1000,
        },
        "layers": [
            {"mediaType": images.OCI_LAYER, "digest": _digest(f"layer {repository} {tag}"), "size": size}
        ],
    }
    return images.Blob(images.OCI_MANIFEST, json.dumps(document).encode())


@functools.cache
def _small_image(tag: str) -> images.Image:
    return images.unpackable([images.archive(1000, f"many-{tag}")])


class SlowRegistry:
    """Answers to requests for manifests and blobs."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._sizes: dict[str, int] = {}
        self._tags: dict[str, str] = {}
        """Digest of a manifest, with its repository where that matters, to the tag that it has."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after the other."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ValueError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, _ = head.decode("latin-1").split(" ", 2)
                _, _, kind, repository, what, name = target.split("/", 5)
                await self._answer(writer, method, f"{kind}/{repository}", what=what, name=name)
        writer.close()

    async def _answer(
        self, writer: asyncio.StreamWriter, method: str, repository: str, *, what: str, name: str
    ) -> None:
        kind = repository.partition("/")[0]
        if kind == "hangs":
            await asyncio.Event().wait()
        if kind == "limits":
            _send_head(writer, 429, 0, {"Retry-After": "0"})
        elif what == "manifests":
            self._send_manifest(writer, method, repository, name)
        elif kind == "many":
            body = self._blobs[name]
            _send_head(writer, 200, len(body))
            writer.write(b"" if method == "HEAD" else body)
        else:
            await self._drip(writer, name, PAUSES[kind])
        await writer.drain()

    def _send_manifest(self, writer: asyncio.StreamWriter, method: str, repository: str, name: str) -> None:
        if repository.startswith("many"):
            tag = self._tags.get(name, name)
            image = _small_image(tag)
            manifest = image.manifest
            self._tags[manifest.digest] = tag
            self._blobs.update({blob.digest: blob.content for blob in image.blobs})
        else:
            tag = self._tags.get(f"{repository}@{name}", name)
            manifest = _stated_image(repository, tag)
            self._tags[f"{repository}@{manifest.digest}"] = tag
            document = json.loads(manifest.content)
            self._sizes.update(
                {each["digest"]: each["size"] for each in (document["config"], *document["layers"])}
            )
        headers = {"Content-Type": manifest.media_type, "Docker-Content-Digest": manifest.digest}
        _send_head(writer, 200, len(manifest.content), headers)
        writer.write(b"" if method == "HEAD" else manifest.content)

    async def _drip(self, writer: asyncio.StreamWriter, digest: str, pause: float) -> None:
        _send_head(writer, 200, self._sizes[digest])
        for _ in range(self._sizes[digest]):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(pause)


def _send_head(
    writer: asyncio.StreamWriter, status: int, length: int, headers: Mapping[str, str] | None = None
) -> None:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())


async def main() -> None:
    """Serve on a free port."""
    registry = SlowRegistry()
    server = await asyncio.start_server(registry.serve, "127.0.0.1", 0)
    print(f"localhost:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
    sys.exit(0)
