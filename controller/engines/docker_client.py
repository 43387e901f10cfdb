"""Speaks to a docker daemon over its unix socket, with the docker SDK.

The SDK cannot cancel a request that is under way and sets no time limit for a pull. Its adapter is
extended for both: connections can be shut down by a cancellation, and every request has an idle
limit. No configuration of a docker user and no environment is read.
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
from docker.transport import UnixHTTPAdapter
from requests import PreparedRequest, Response
from requests.exceptions import RequestException
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError

from controller.engines.docker_errors import error_from_text
from controller.engines.docker_stream import ProgressEvent, read_events
from controller.registry.auth.auth_file import IDENTITY_TOKEN, REGISTRY_TOKEN
from controller.threads import Cancellation, Stopped
from reconcile.errors import Conflict, DockerCacheError, NotFound, Unavailable
from reconcile.foreign_text import clean
from reconcile.lrps import Credentials
from reconcile.references import Digest, ImageReference, parse_digest

_NO_CONFIG = Path(__file__).parent / "no_docker_config"
"""Directory with an empty config.json; without one the SDK reads that in the home directory."""

_LOST = (RequestException, HTTPError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class LocalImage:
    """An image that the daemon holds.

    Attributes:
        image_id: Digest of its config, or of its manifest where the daemon stores images in containerd.
        tags: References by tag.
        digests: References by digest.
        layers: Diff IDs, lowest layer first; empty in a listing.
    """

    image_id: Digest
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    layers: tuple[Digest, ...] = ()


class _Connection(HTTPConnection):
    """A connection that a cancellation shuts down, and that closes its socket when it cannot connect."""

    def __init__(self, *args: Any, path: str, cancellation: Cancellation, **options: Any) -> None:
        super().__init__(*args, **options)
        self._path, self._cancellation = path, cancellation

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
            self._cancellation.watch(sock)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _Adapter(UnixHTTPAdapter):  # type: ignore[misc] # the SDK has no types
    """The SDK's adapter with connections that can be cancelled, and an idle limit for pulls too."""

    def __init__(self, path: str, cancellation: Cancellation, idle: float) -> None:
        super().__init__(path, timeout=idle)
        self.pools[""] = _Pool("localhost", path=path, cancellation=cancellation)

    def get_connection(self, url: str, proxies: Any = None) -> HTTPConnectionPool:
        del url, proxies  # there is one daemon, and no proxy before its socket
        pool: HTTPConnectionPool = self.pools[""]
        return pool

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        response: Response = super().send(request, *args, **{**options, "timeout": self.timeout})
        return response


class DockerClient:
    """A client of the daemon for one piece of work; use it in a `with` statement. Its methods block.

    Args:
        socket_path: Of the daemon.
        idle: Seconds after which a request fails when no byte arrives.
        cancellation: Ends the requests under way, and prevents new ones.

    Raises:
        Unavailable: `daemon-lost` when it does not respond.
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
        self._responses = contextlib.ExitStack()
        self._client.hooks["response"].append(self._close_at_end)

    def _open(self, version: str) -> "docker.APIClient":
        client = docker.APIClient(f"unix://{self._path}", version=version)
        client.trust_env = False
        client.mount("http+docker://", _Adapter(self._path, self._cancellation, self._idle))
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._responses.close()
        self._client.close()

    def _close_at_end(self, response: Response, **_: object) -> None:
        # The daemon ends a pull or a push once its stream is closed.
        self._responses.callback(response.close)

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
    ) -> Iterator[ProgressEvent]:
        """Pull an image by its digest, and yield the events of the stream.

        Raises:
            DockerCacheError: The response or an event reports a failure.
        """
        attempted, secrets = f"pull {image}", _secrets(credentials)
        with self._translated(attempted, secrets):
            stream = self._client.pull(
                image.repository,
                tag=image.tag_or_digest,
                stream=True,
                auth_config=_auth_config(credentials),
                platform=platform,
            )
            yield from read_events(stream, attempted, secrets)

    def push(self, image: ImageReference, *, credentials: Credentials | None) -> Iterator[ProgressEvent]:
        """Push one tag, and yield the events of the stream.

        Raises:
            DockerCacheError: The response or an event reports a failure.
        """
        attempted, secrets = f"push {image}", _secrets(credentials)
        with self._translated(attempted, secrets):
            stream = self._client.push(
                image.repository, tag=image.tag_or_digest, stream=True, auth_config=_auth_config(credentials)
            )
            yield from read_events(stream, attempted, secrets)

    def tag(self, image_id: Digest, image: ImageReference) -> None:
        """Add a tag to an image."""
        with self._translated(f"tag {image}"):
            self._client.tag(str(image_id), image.repository, tag=image.tag_or_digest)

    def find_image(self, reference: str) -> LocalImage | None:
        """Look up an image; None when the daemon does not hold it."""
        try:
            with self._translated(f"inspect {reference}"):
                return _local_image(self._client.inspect_image(reference))
        except NotFound:
            return None

    def list_images(self) -> tuple[LocalImage, ...]:
        """List the images that the daemon holds."""
        with self._translated("list images"):
            return tuple(_local_image(each) for each in self._client.images())

    def untag(self, reference: str) -> None:
        """Remove a tag or digest, and the image with its last one; an image in use stays."""
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
    """Return the login in the SDK's form: an empty one is anonymous, for None the SDK would search one."""
    if credentials is None:
        return {}
    if credentials.username == IDENTITY_TOKEN:
        return {"identitytoken": credentials.password.value}
    if credentials.username == REGISTRY_TOKEN:
        return {"registrytoken": credentials.password.value}
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
    cause = clean(str(error), secrets) or type(error).__name__
    return Unavailable(
        "docker", "daemon-lost", f"{attempted}: no complete response of the docker daemon: {cause}"
    )
