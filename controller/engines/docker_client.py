"""Speaks to a docker daemon over its unix socket, with the docker SDK.

The SDK gives no handle on a running request and no time limit to a pull. Both come from the
connections, which are ours: each has an idle limit and can be shut down from outside. No
configuration of a docker user is read, and no environment.
"""

import base64
import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import docker
from docker.constants import MINIMUM_DOCKER_API_VERSION
from docker.errors import APIError, DockerException
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError

from controller.engines.docker_errors import error_from_text
from controller.engines.docker_stream import Event, read_events
from controller.registry.cancellation import Cancellation, Stopped
from controller.registry.errors import clean
from reconcile.errors import Conflict, DockerCacheError, NotFound, Unavailable
from reconcile.images import Digest, ImageReference, parse_digest
from reconcile.lrps import Credentials

_NO_CONFIG = Path(__file__).parent / "no_docker_config"
"""Holds an empty config.json: without a file there the SDK reads the one in the home directory."""

_LOST = (RequestException, HTTPError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class LocalImage:
    """An image that the daemon holds.

    Attributes:
        image_id: Digest of its config, or of its manifest where the daemon keeps images in containerd.
        tags: References by tag.
        digests: References by digest.
        layers: Diff IDs, lowest layer first; empty when it came out of a listing.
    """

    image_id: Digest
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    layers: tuple[Digest, ...] = ()


class _Connection(HTTPConnection):
    """A connection to the socket that a cancellation shuts down."""

    def __init__(self, *args: Any, path: str, cancellation: Cancellation, **options: Any) -> None:
        super().__init__(*args, **options)
        self._path, self._cancellation = path, cancellation

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            timeout = self.timeout
            sock.settimeout(timeout if isinstance(timeout, int | float) else None)
            sock.connect(self._path)
            self._cancellation.watch(sock)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _Adapter(HTTPAdapter):
    """Sends every request over our connections, under our limit."""

    def __init__(self, path: str, cancellation: Cancellation, idle: float) -> None:
        super().__init__()
        self._pool = _Pool("localhost", path=path, cancellation=cancellation)
        self._idle = idle

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        return super().send(request, *args, **{**options, "timeout": self._idle})

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:  # noqa: ARG002 - as it is called
        return request.path_url

    def close(self) -> None:
        super().close()
        self._pool.close()


class DockerClient:
    """One piece of work with the daemon; leave it with `with`. Its methods block.

    Args:
        socket_path: Where the daemon listens.
        idle: Seconds without a byte after which a request fails.
        cancellation: Ends the requests under way, and lets none begin.

    Raises:
        Unavailable: `daemon-lost` when it does not answer.
    """

    def __init__(self, socket_path: str, *, idle: float, cancellation: Cancellation) -> None:
        self._path, self._idle, self._cancellation = socket_path, idle, cancellation
        os.environ["DOCKER_CONFIG"] = str(_NO_CONFIG)
        with self._translated("ask for the daemon's version"):
            client = self._open(MINIMUM_DOCKER_API_VERSION)
            try:
                version = str(client.version(api_version=False)["ApiVersion"])
            finally:
                client.close()
            self._client = self._open(version)
        self._answers = contextlib.ExitStack()
        self._client.hooks["response"].append(self._close_at_end)

    def _open(self, version: str) -> "docker.APIClient":
        client = docker.APIClient(f"unix://{self._path}", version=version)
        client.trust_env = False
        client.mount("http+docker://", _Adapter(self._path, self._cancellation, self._idle))
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._client.close()

    def _close_at_end(self, answer: Response, **_: object) -> None:
        # The daemon gives up what it does once nobody reads on.
        self._answers.callback(answer.close)

    @contextlib.contextmanager
    def _translated(self, attempted: str, secrets: tuple[str, ...] = ()) -> Iterator[None]:
        try:
            yield
        except (DockerException, *_LOST) as error:
            if self._cancellation.is_cancelled:
                raise Stopped from error
            raise _error(error, attempted, secrets) from error

    def pull(
        self, image: ImageReference, *, platform: str, credentials: Credentials | None
    ) -> Iterator[Event]:
        """Pull an image by its digest, and give the events to the end of the stream.

        Raises:
            DockerCacheError: The daemon could not, as its answer or an event says.
        """
        attempted, secrets = f"pull {image}", _secrets(credentials)
        with self._translated(attempted, secrets):
            stream = self._client.pull(
                image.repository,
                tag=image.version,
                stream=True,
                auth_config=_auth_config(credentials),
                platform=platform,
            )
            yield from read_events(stream, attempted, secrets)

    def push(self, image: ImageReference, *, credentials: Credentials | None) -> Iterator[Event]:
        """Push one tag, and give the events to the end of the stream.

        Raises:
            DockerCacheError: The daemon could not, as its answer or an event says.
        """
        attempted, secrets = f"push {image}", _secrets(credentials)
        with self._translated(attempted, secrets):
            stream = self._client.push(
                image.repository, tag=image.version, stream=True, auth_config=_auth_config(credentials)
            )
            yield from read_events(stream, attempted, secrets)

    def tag(self, image_id: Digest, image: ImageReference) -> None:
        """Give an image one more name."""
        with self._translated(f"tag {image}"):
            self._client.tag(str(image_id), image.repository, tag=image.version)

    def find_image(self, reference: str) -> LocalImage | None:
        """Look for an image; None when the daemon does not hold it."""
        try:
            with self._translated(f"inspect {reference}"):
                return _local_image(self._client.inspect_image(reference))
        except NotFound:
            return None

    def list_images(self) -> tuple[LocalImage, ...]:
        """List what the daemon holds."""
        with self._translated("list images"):
            return tuple(_local_image(each) for each in self._client.images())

    def untie(self, reference: str) -> None:
        """Take a name from an image, and the image away with its last name; what is gone or in use stays."""
        with contextlib.suppress(NotFound, Conflict), self._translated(f"remove {reference}"):
            self._client.remove_image(reference)


def _local_image(document: dict[str, Any]) -> LocalImage:
    layers = (document.get("RootFS") or {}).get("Layers") or ()
    return LocalImage(
        image_id=parse_digest(str(document.get("Id"))),
        tags=tuple(document.get("RepoTags") or ()),
        digests=tuple(document.get("RepoDigests") or ()),
        layers=tuple(parse_digest(str(each)) for each in layers),
    )


def _auth_config(credentials: Credentials | None) -> dict[str, str]:
    """Write what the SDK encodes; an empty one says "anonymous", where None would make it search."""
    if credentials is None:
        return {}
    return {"username": credentials.username, "password": credentials.password.value}


def _secrets(credentials: Credentials | None) -> tuple[str, ...]:
    if credentials is None:
        return ()
    login = f"{credentials.username}:{credentials.password.value}"
    return (base64.b64encode(login.encode()).decode(), credentials.password.value)


def _error(error: Exception, attempted: str, secrets: tuple[str, ...]) -> DockerCacheError:
    if isinstance(error, APIError):
        status = None if error.response is None else error.response.status_code
        text = str(error.explanation or "")
        if status == 409:
            return Conflict("docker", "conflict", f"{attempted}: {clean(text, secrets)}")
        return error_from_text(text, attempted, code=status, secrets=secrets)
    told = clean(str(error), secrets) or type(error).__name__
    return Unavailable("docker", "daemon-lost", f"{attempted}: no whole answer of the docker daemon: {told}")
