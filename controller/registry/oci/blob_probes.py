"""Asks a registry for single blobs that a copy rests on: whether it has them, and whether it has their bytes.

A registry that remembers which blobs it has answers HEAD with 200 also when their files are gone; only a
request for bytes shows it. Observed on the CNCF registry 2.8 with its descriptor cache: 206 and no bytes.
"""

from controller.registry.auth.challenges import merge_scopes, pull_scope
from controller.registry.http.request import Request
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.ranges import parse_content_range
from controller.registry.oci.repository import Repository
from reconcile.errors import ErrorCode, Unavailable

_CAN_READ = ""


def why_not_held(repository: Repository, blob: Descriptor) -> str:
    """Say why a registry does not hold a blob, by its own word; empty when it does.

    Raises:
        DockerCacheError: It does not answer, or refuses to tell.
    """
    return repository.session.retry(_look_up, repository, blob)


def _look_up(repository: Repository, blob: Descriptor) -> str:
    subject = repository.session.subject(str(blob.digest))
    request = Request("HEAD", repository.session.url(f"blobs/{blob.digest}"), may_leave=True)
    with repository.session.send(request, _scopes(repository), subject) as response:
        if response.status in {404, 410}:
            return "is not there"
        if response.url.origin != repository.session.base.origin:
            return _CAN_READ  # it redirects to storage, whose signatures are often for GET alone
        if response.status != 200:
            raise repository.session.error(response, f"{subject} (look up blob)")
        if response.length not in {blob.size, None}:
            return f"has {response.length} bytes instead of {blob.size}"
        return _CAN_READ


def why_not_readable(repository: Repository, blob: Descriptor) -> str:
    """Say why the first and the last byte of a blob cannot be read; empty when they can.

    Raises:
        DockerCacheError: The registry does not answer, or refuses the request.
    """
    for offset in sorted({0, blob.size - 1} - {-1}):
        why = _why_not_at(repository, blob, offset)
        if why:
            return why
    return _CAN_READ


def _why_not_at(repository: Repository, blob: Descriptor, offset: int) -> str:
    try:
        return repository.session.retry(_read_byte, repository, blob, offset)
    except Unavailable as error:
        if error.code == ErrorCode.CUT:  # and so it was in every attempt
            return f"has no byte {offset}: {error.detail}"
        raise


def _read_byte(repository: Repository, blob: Descriptor, offset: int) -> str:
    session, subject = repository.session, repository.session.subject(str(blob.digest))
    headers = {"Range": f"bytes={offset}-{offset}"}
    request = Request("GET", session.url(f"blobs/{blob.digest}"), headers, may_leave=True)
    with session.send(request, _scopes(repository), subject) as response:
        match response.status:
            case 404 | 410:
                return "is not there"
            case 416:
                return f"has no byte {offset}"
            case 206:
                part = parse_content_range(response.headers.get_all("Content-Range") or [])
                total = None if part is None else part.total
            case 200:  # ranges are ignored: its length is stated, and its first byte shows that it is there
                total = response.length
            case _:
                raise session.error(response, f"{subject} (read blob)")
        if total not in {blob.size, None}:
            return f"has {total} bytes instead of {blob.size}"
        if not response.read(1):
            raise Unavailable("registry", ErrorCode.CUT, f"{subject}: ended before byte {offset}")
        return _CAN_READ


def _scopes(repository: Repository) -> frozenset[str]:
    return merge_scopes([pull_scope(repository.image.path)])
